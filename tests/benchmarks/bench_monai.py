"""Compare ``segment`` with MONAI's ``sliding_window_inference``.

Both have the same network (a U-Net on ResNet-34, 256 pixel windows), windows, batch,
overlap and precision. MONAI gets the normalised image in memory, and returns logits in
memory. ``segment`` reads a tiled JPEG file and writes labels and confidence to the
disk. Each runs in a process of its own. Memory is the peak resident memory above that
before the run. CPU seconds are those of all threads of the process; with
``OMP_NUM_THREADS=1`` and ``OMP_WAIT_POLICY=PASSIVE`` they can be compared on a busy
machine too. MONAI is no dependency: without it (``pip install monai``) only ``segment``
is measured.
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from common import added, child, tiled, unet
from rich.table import Table

BATCH = 4


@dataclass(frozen=True)
class Size:
    """Sides of the images in pixels, and overlaps in pixels for the first of them.

    ``window`` is the side of a window in pixels.
    """

    sides: tuple[int, ...] = (4096, 8192)
    overlaps: tuple[int, ...] = (0, 64)
    window: int = 256


FULL, TINY = Size(), Size((128,), (0,), 64)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Measure both on every image; takes no files."""
    del image, checkpoint
    table = Table("pixels", "overlap", "precision", "", "seconds", "CPU", "memory")
    table.add_column("ratio (of CPU seconds)")
    table.title = "A plain sliding window: segment against MONAI"
    names = ["MONAI", "segment"]
    if find_spec("monai") is None:
        table.title += ", which is not installed (pip install monai)"
        names.remove("MONAI")
    with tempfile.TemporaryDirectory() as folder:
        for side in size.sides:
            file = tiled(Path(folder) / f"{side}.tif", side, "jpeg")
            for overlap in size.overlaps if side == size.sides[0] else (0,):
                found = {
                    name: child(
                        __file__, name, str(file), str(overlap), str(size.window)
                    )
                    for name in names
                }
                first, first_cpu, _ = found[names[0]]
                for name, (seconds, cpu, memory) in found.items():
                    table.add_row(
                        f"{side:,} x {side:,}",
                        str(overlap),
                        "bf16",
                        name,
                        f"{seconds:.1f} s",
                        f"{cpu:.1f} s",
                        f"{memory:,.0f} MB",
                        f"{seconds / first:.2f} ({cpu / first_cpu:.2f})",
                    )
    return table


def main(name: str, file: str, overlap: str, window: str) -> None:
    """Print seconds, CPU seconds and memory in MB, as JSON.

    Parameters
    ----------
    name
        ``MONAI`` or ``segment``.
    file
        The image.
    overlap
        The overlap of the windows in pixels.
    window
        The side of the windows in pixels.
    """
    import torch

    from napari_uhrseg.engine.network.device import inference_mode
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.models.base import Batch
    from napari_uhrseg.types import Roi, SegmentSettings

    side = int(window)
    network, opened = unet(side), open_image(file)
    cpu = torch.device("cpu")
    warm = Batch({"local": torch.zeros(BATCH, 3, side, side)}).to(cpu)
    with inference_mode(cpu, "bf16"):
        network.model(warm)
    if name == "MONAI":
        from monai.inferers import sliding_window_inference

        pixels = opened.read(Roi(0, 0, *opened.shape)).data
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div_(255)

        def job() -> None:
            with inference_mode(cpu, "bf16"):
                sliding_window_inference(
                    tensor,
                    (side, side),
                    BATCH,
                    lambda x: network.model(Batch({"local": x}).to(cpu))["logits"],
                    overlap=int(overlap) / side,
                )
    else:
        from napari_uhrseg.engine.inference.segment import segment
        from napari_uhrseg.engine.planning.plan import make_plan
        from napari_uhrseg.io.labels.store import LabelStore

        settings = SegmentSettings(
            "cpu", precision="bf16", overlap=int(overlap), batch_size=BATCH
        )
        make_plan(opened, network, settings)  # its calibration is kept

        def job() -> None:
            with LabelStore.create(None, opened, network.card.legend) as store:
                for _ in segment(opened, network, store, settings):
                    pass

    with added() as mb:
        start, used = time.monotonic(), time.process_time()
        job()
        seconds, used = time.monotonic() - start, time.process_time() - used
    print(json.dumps((seconds, used, mb[0])))


if __name__ == "__main__":
    main(*sys.argv[1:])
