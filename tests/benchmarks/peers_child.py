"""Label an image with another program; runs in an environment that has it.

peers_child.py PROGRAM IMAGE NETWORK WINDOW OVERLAP FOLDER

NETWORK is a TorchScript file: (N, 3, h, w) float32 values from 0 to 255 become logits.
FOLDER gets the program's output, and with MONAI and TIAToolbox found.npy, the class
indices. The last line of the output is JSON: seconds, CPU seconds of all threads, and
the peak memory above that before the run in MB. What imports and loads the network is
not counted. PROGRAM is monai, tiatoolbox or lazyslide.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

BATCH = 8
Found = Callable[[], np.ndarray | None]


def monai(image: str, network: torch.nn.Module, side: int, overlap: int) -> Found:
    """Return the call that labels an image in memory."""
    import tifffile
    from monai.inferers import sliding_window_inference

    def run() -> np.ndarray:
        pixels = torch.from_numpy(tifffile.imread(image)).permute(2, 0, 1)[None]
        logits = sliding_window_inference(
            pixels.float(), (side, side), BATCH, network, overlap=overlap / side
        )
        return logits[0].argmax(0).byte().numpy()

    return run


def tiatoolbox(
    image: str, network: torch.nn.Module, side: int, overlap: int, folder: Path
) -> Found:
    """Return the call that labels a slide with ``SemanticSegmentor``."""
    import zarr
    from tiatoolbox.models import IOSegmentorConfig, SemanticSegmentor
    from tiatoolbox.models.models_abc import ModelABC

    class Network(ModelABC):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x)

        @staticmethod
        def infer_batch(
            model: torch.nn.Module, batch_data: torch.Tensor, *, device: str
        ) -> np.ndarray:
            given = batch_data.to(device, torch.float32).permute(0, 3, 1, 2)
            with torch.inference_mode():
                chances = torch.softmax(model(given), 1)
            return chances.permute(0, 2, 3, 1).numpy()

        @staticmethod
        def postproc(image: np.ndarray) -> np.ndarray:
            return np.argmax(image, axis=-1)

    whole = [{"units": "baseline", "resolution": 1.0}]
    config = IOSegmentorConfig(
        input_resolutions=whole,
        output_resolutions=whole,
        save_resolution=whole[0],
        patch_input_shape=(side, side),
        patch_output_shape=(side, side),
        stride_shape=(side - overlap, side - overlap),
    )
    engine = SemanticSegmentor(
        Network(), batch_size=BATCH, num_workers=0, device="cpu", verbose=False
    )

    def run() -> np.ndarray:
        out = engine.run(
            [Path(image)], patch_mode=False, ioconfig=config, save_dir=folder / "out",
            output_type="zarr", auto_get_mask=False, overwrite=True,
        )  # fmt: skip
        return np.asarray(zarr.open(str(next(iter(out.values()))))["predictions"])

    return run


def lazyslide(
    image: str, network: torch.nn.Module, side: int, overlap: int, folder: Path
) -> Found:
    """Return the call that turns a slide into polygons of its classes."""
    import lazyslide as zs
    from lazyslide_models.base import SegmentationModel, SegmentationOutput
    from wsidata import open_wsi

    class Network(SegmentationModel):
        def __init__(self) -> None:
            self.model = network

        def get_transform(self) -> Callable[[np.ndarray], torch.Tensor]:
            return lambda pixels: torch.from_numpy(pixels).permute(2, 0, 1).float()

        def to(self, device: str) -> "Network":
            return self

        def segment(self, image: torch.Tensor) -> SegmentationOutput:
            return SegmentationOutput(
                probability_map=torch.softmax(self.model(image), 1)
            )

    slide = open_wsi(image, store=str(folder / "out.zarr"))

    def run() -> None:
        zs.pp.tile_tissues(slide, side, overlap=overlap / side, mpp=None)
        zs.seg.semantic(
            slide, Network(), ignore_index=None, mode="constant", batch_size=BATCH,
            device="cpu", pbar=False,
        )  # fmt: skip
        slide.write(str(folder / "out.zarr"), overwrite=True)

    return run


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(program: str, image: str, network: str, *rest: str) -> None:
    """Run a program, and print the seconds, CPU seconds and memory."""
    side, overlap, folder = int(rest[0]), int(rest[1]), Path(rest[2])
    loaded = torch.jit.load(network).eval()
    with torch.inference_mode():
        loaded(torch.zeros(BATCH, 3, side, side))
    run: Found
    if program == "monai":
        run = monai(image, loaded, side, overlap)
    elif program == "tiatoolbox":
        run = tiatoolbox(image, loaded, side, overlap, folder)
    else:
        run = lazyslide(image, loaded, side, overlap, folder)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = peak_mb()
    start, used = time.monotonic(), time.process_time()
    with torch.inference_mode():
        found = run()
    seconds, used = time.monotonic() - start, time.process_time() - used
    memory = peak_mb() - before
    if found is not None:
        np.save(folder / "found.npy", found.astype(np.uint8))
    print(json.dumps((seconds, used, memory)))


if __name__ == "__main__":
    main(*sys.argv[1:])
