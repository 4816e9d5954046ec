"""EHSNet on one frame as large as the papers' images, within 4 and 6 GB.

HRNet-W48 with 256 channels, 7 classes, on noise: the 5000 x 5000 of Inria, for which
the paper used cards of 24 GB, and 6800 x 7200. On the CPU in its own precision, a
process each; memory is the highest resident memory above what was held before.
"""

import json
import sys
import time
from pathlib import Path

from common import MB, added, child
from rich.table import Table

FRAMES = ((5000, 5000, 4096), (6800, 7200, 6144))  # height, width, budget in MB


def run(image: Path | None, checkpoint: Path | None) -> Table:
    del image, checkpoint
    table = Table("frame", "plan", "budget", "said", "measured", "seconds")
    table.title = "EHSNet (HRNet-W48) on one frame, CPU"
    for height, width, budget in FRAMES:
        found = child(__file__, str(height), str(width), str(budget))
        row = (
            f"{height:,} x {width:,}",
            found["plan"],
            f"{budget:,} MB",
            f"{found['said']:,.0f} MB",
            f"{found['measured']:,.0f} MB",
            f"{found['seconds']:.0f}",
        )
        print(*row, flush=True)  # it takes long
        table.add_row(*row)
    return table


def main(height: str, width: str, budget: str) -> None:
    import numpy as np
    import torch

    from napari_uhrseg.engine.events import Finished, Planned
    from napari_uhrseg.engine.inference.segment import segment
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.io.image.from_array import image_from_array
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.models.checkpoint import Checkpoint
    from napari_uhrseg.models.registry import build
    from napari_uhrseg.types import Card, LabelClass, Legend, SegmentSettings

    torch.manual_seed(0)
    legend = Legend(tuple(LabelClass(n + 1, f"class {n}", "#000000") for n in range(7)))
    how = {"encoder": "hrnet_w48", "width": 256, "frame": max(int(height), int(width))}
    model = build("ehsnet", how, legend).eval()
    card = Card("ehsnet", how, legend, model.spec, name="EHSNet, HRNet-W48")
    checkpoint = Checkpoint(model, card, "ehsnet-w48", Path("ehsnet-w48"))
    shape = int(height), int(width), 3
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    opened = image_from_array(pixels, name="noise", rgb=True)
    limit = MemoryBudget("cpu", int(budget) * MB, int(budget) * MB)
    said: dict[str, object] = {}
    with LabelStore.create(None, opened, legend) as store, added() as mb:
        start = time.monotonic()
        for event in segment(opened, checkpoint, store, SegmentSettings("cpu"), limit):
            match event:
                case Planned(plan):
                    said["plan"] = plan.summary()
                    said["said"] = plan.estimate.device_bytes / MB
                case Finished():
                    said["seconds"] = time.monotonic() - start
    said["measured"] = mb[0]
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
