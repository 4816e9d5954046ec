"""``segment`` with a plain window beside MONAI's ``sliding_window_inference``.

The same network (a U-Net on ResNet-34, 256 pixel windows), windows, batch, overlap and
precision. MONAI gets the image normalised and in memory, and gives logits in memory;
``segment`` reads a tiled JPEG file and leaves labels and confidence on the disk. A
process each; memory is the highest resident memory above what was held before. CPU
seconds are those of all threads of the process: with ``OMP_NUM_THREADS=1`` and
``OMP_WAIT_POLICY=PASSIVE`` they can be compared on a busy machine, too.
Needs ``pip install monai``; nothing else here does.
"""

import json
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from common import added, child, tiled, unet
from rich.table import Table

SIDES = (4096, 8192)
BATCH = 4


def run(image: Path | None, checkpoint: Path | None) -> Table:
    del image, checkpoint
    table = Table("pixels", "overlap", "precision", "", "seconds", "CPU", "memory")
    table.add_column("ratio (of CPU seconds)")
    table.title = "A plain sliding window: segment against MONAI"
    if find_spec("monai") is None:
        table.title += ": not measured, for want of it (pip install monai)"
        return table
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            file = tiled(Path(folder) / f"{side}.tif", side, "jpeg")
            for overlap in (0, 64) if side == SIDES[0] else (0,):
                found = {
                    who: child(__file__, who, str(file), str(overlap))
                    for who in ("MONAI", "segment")
                }
                for who, (seconds, cpu, memory) in found.items():
                    table.add_row(
                        f"{side:,} x {side:,}",
                        str(overlap),
                        "bf16",
                        who,
                        f"{seconds:.1f} s",
                        f"{cpu:.1f} s",
                        f"{memory:,.0f} MB",
                        f"{seconds / found['MONAI'][0]:.2f} "
                        f"({cpu / found['MONAI'][1]:.2f})",
                    )
    return table


def main(who: str, file: str, overlap: str) -> None:
    import torch

    from napari_uhrseg.engine.network.device import running
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.models.base import Batch
    from napari_uhrseg.types import Roi, SegmentSettings

    network, opened = unet(), open_image(file)
    cpu = torch.device("cpu")
    warm = Batch({"local": torch.zeros(BATCH, 3, 256, 256)}).to(cpu)
    with running(cpu, "bf16"):
        network.model(warm)
    if who == "MONAI":
        from monai.inferers import sliding_window_inference

        pixels = opened.read(Roi(0, 0, *opened.shape)).data
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div_(255)

        def job() -> None:
            with running(cpu, "bf16"):
                sliding_window_inference(
                    tensor,
                    (256, 256),
                    BATCH,
                    lambda x: network.model(Batch({"local": x}).to(cpu))["logits"],
                    overlap=int(overlap) / 256,
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
