"""Compare ``segment`` with other programs that label an image in windows.

All have the same networks in float32, windows of 256 pixels in batches of 8, overlap,
tiled JPEG file and two threads. Each runs in a process of its own:

- MONAI's ``sliding_window_inference``: image and logits are in memory,
- TIAToolbox's ``SemanticSegmentor``, which writes labels as Zarr,
- LazySlide's ``semantic``, which writes polygons of the classes,
- ``segment``, which writes labels, confidence and their levels as OME-Zarr.

The others are no dependencies. The variables MONAI_PYTHON, TIATOOLBOX_PYTHON and
LAZYSLIDE_PYTHON name interpreters of environments that have them; without them, only
``segment`` is measured. They get the network as TorchScript, with its normalisation.
CPU seconds are those of all threads of the process. Memory is the peak resident memory
above that before the run. *Equal* is the share of pixels with the label of ``segment``.
The rows are added to ``tables/peers.csv``.
"""

import json
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import MB, added, child, sample, tiled, unet
from measurements import TABLES, put_rows
from rich.table import Table
from torch import Tensor, nn

from napari_uhrseg.models.base import Batch, Segmenter
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint

BATCH, THREADS = 8, 2
KEYS = ("network", "pixels", "overlap", "program")
PEERS = {"monai": "MONAI", "tiatoolbox": "TIAToolbox", "lazyslide": "LazySlide"}


@dataclass(frozen=True)
class Size:
    """Networks, sides of the images of each in pixels, and overlaps in pixels."""

    networks: tuple[str, ...] = ("sample plain", "U-Net, ResNet-34")
    sides: tuple[int, ...] = (4096, 2048)
    overlaps: tuple[int, ...] = (0, 64)
    save: bool = True


FULL, TINY = Size(), Size(("sample plain",), (256,), (0,), False)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Measure all programs that there are; takes no files."""
    del image, checkpoint
    table = Table(
        "network", "pixels", "overlap", "program", "seconds", "CPU s", "memory",
        "on the disk", "equal",
    )  # fmt: skip
    found = {name: os.environ.get(f"{name.upper()}_PYTHON") for name in PEERS}
    pythons = {name: python for name, python in found.items() if python}
    missing = ", ".join(PEERS[name] for name in PEERS if name not in pythons)
    table.title = "Programs that label an image in windows"
    if missing:
        table.title += f" (without {missing}, whose environments are not given)"
    for network, side in zip(size.networks, size.sides, strict=True):
        for overlap in size.overlaps:
            rows = list(_measured(network, side, overlap, pythons))
            if size.save:
                put_rows(TABLES / "peers.csv", rows, KEYS)
            for row in rows:
                table.add_row(*("-" if v is None else str(v) for v in row.values()))
    return table


def _measured(
    network: str, side: int, overlap: int, pythons: dict[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield a row for ``segment`` and for each other program."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        file = tiled(here / "image.tif", side, "jpeg")
        own = here / "segment"
        own.mkdir()
        figures = child(__file__, network, str(file), str(overlap), str(own))
        labels = np.load(own / "found.npy")
        key = {"network": network, "pixels": side, "overlap": overlap}
        yield key | {"program": "segment"} | _figures(figures, own, labels)
        if pythons:
            traced(network).save(str(here / "network.pt"))
        for name, python in pythons.items():
            other = here / name
            other.mkdir()
            figures = _peer(python, name, here, overlap, other)
            yield key | {"program": PEERS[name]} | _figures(figures, other, labels)


def _peer(python: str, name: str, here: Path, overlap: int, out: Path) -> Any:
    """Run another program; return its seconds, CPU seconds and memory in MB."""
    script, image = Path(__file__).with_name("peers_child.py"), here / "image.tif"
    command = [
        python, "-W", "ignore", str(script), name, str(image),
        str(here / "network.pt"), "256", str(overlap), str(out),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def _figures(
    figures: tuple[float, float, float], folder: Path, labels: np.ndarray
) -> dict[str, str | None]:
    """Return the figures of a program as texts; None: not measured.

    Parameters
    ----------
    figures
        Seconds, CPU seconds and memory in MB.
    folder
        The program's output.
    labels
        (h, w) uint8: class indices that ``segment`` found.
    """
    seconds, used, memory = figures
    found = folder / "found.npy"
    equal = f"{(np.load(found) == labels).mean():.4f}" if found.exists() else None
    files = (f for f in folder.rglob("*") if f.is_file() and f != found)
    written = sum(f.stat().st_size for f in files) / MB
    return {
        "seconds": f"{seconds:.1f}",
        "cpu_seconds": f"{used:.1f}",
        "memory_mb": f"{memory:.0f}",
        "written_mb": f"{written:.2f}",
        "equal_share": equal,
    }


class FromRgb(nn.Module):
    """Network of RGB values from 0 to 255 that normalises them itself."""

    def __init__(self, model: Segmenter) -> None:
        super().__init__()
        self.model = model
        for name, values in (("mean", model.spec.mean), ("std", model.spec.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, values: Tensor) -> Tensor:
        """Return the (N, K, h, w) logits of (N, 3, h, w) values."""
        given = Batch({"local": (values / 255 - self.mean) / self.std})
        logits: Tensor = self.model(given)["logits"]
        return logits


def traced(network: str) -> torch.jit.ScriptModule:
    """Return a network as TorchScript, which other versions of torch can load."""
    whole = FromRgb(_network(network).model.eval())
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.export cannot do that
        made: torch.jit.ScriptModule = torch.jit.trace(
            whole, torch.zeros(BATCH, 3, 256, 256)
        )
    return made


def _network(network: str) -> Checkpoint:
    if network == "sample plain":
        return load_checkpoint(sample("plain.safetensors"))
    return unet()


def main(network: str, file: str, overlap: str, folder: str) -> None:
    """Print seconds, CPU seconds and memory in MB of ``segment``, as JSON.

    Parameters
    ----------
    network
        Name of the network.
    file
        The image.
    overlap
        Overlap of the windows in pixels.
    folder
        Folder for the store and for ``found.npy``, the class indices.
    """
    from napari_uhrseg.engine.inference.segment import segment
    from napari_uhrseg.engine.planning.plan import make_plan
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.types import SegmentSettings

    checkpoint, image = _network(network), open_image(file)
    settings = SegmentSettings(
        "cpu", precision="fp32", overlap=int(overlap), batch_size=BATCH, scale=1,
        threads=THREADS,
    )  # fmt: skip
    make_plan(image, checkpoint, settings)  # its calibration is kept
    legend = checkpoint.card.legend
    with added() as mb:
        start, used = time.monotonic(), time.process_time()
        with LabelStore.create(Path(folder) / "out.zarr", image, legend) as store:
            for _ in segment(image, checkpoint, store, settings):
                pass
        seconds, used = time.monotonic() - start, time.process_time() - used
    with LabelStore.open(Path(folder) / "out.zarr") as store:
        ids = np.array([one.id for one in legend], np.uint8)
        labels = np.searchsorted(ids, store.prediction[0][:])
    np.save(Path(folder) / "found.npy", labels.astype(np.uint8))
    print(json.dumps((seconds, used, mb[0])))


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
