"""Measure EHSNet on one frame as large as the papers' images, within 4 and 6 GB.

The network is HRNet-W48 with 256 channels and 7 classes, the image is noise: the 5000 x
5000 of Inria, for which the paper used cards of 24 GB, and 6800 x 7200. Each runs on
the CPU in its default precision, in a process of its own. Memory is the peak resident
memory above that before the run.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common import MB, added, child
from rich.table import Table


@dataclass(frozen=True)
class Size:
    """Frames as height, width and budget in MB; the network's encoder and channels."""

    frames: tuple[tuple[int, int, int], ...] = ((5000, 5000, 4096), (6800, 7200, 6144))
    encoder: str = "hrnet_w48"
    width: int = 256


FULL, TINY = Size(), Size(((128, 192, 2048),), "hrnet_w18_small", 32)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Measure every frame; takes no files."""
    del image, checkpoint
    table = Table("frame", "plan", "budget", "said", "measured", "seconds")
    table.title = f"EHSNet ({size.encoder}) on one frame, CPU"
    for height, width, budget in size.frames:
        arguments = height, width, budget, size.encoder, size.width
        found = child(__file__, *map(str, arguments))
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


def main(height: str, width: str, budget: str, encoder: str, channels: str) -> None:
    """Print the plan, its estimate, the memory in MB and the seconds, as JSON.

    Parameters
    ----------
    height, width
        The frame's size in pixels.
    budget
        The memory allowed, in MB.
    encoder, channels
        The network's encoder and width.
    """
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
    longest = max(int(height), int(width))
    how = {"encoder": encoder, "width": int(channels), "frame": longest}
    model = build("ehsnet", how, legend).eval()
    card = Card("ehsnet", how, legend, model.spec, name=f"EHSNet, {encoder}")
    checkpoint = Checkpoint(model, card, f"ehsnet-{encoder}", Path(f"ehsnet-{encoder}"))
    shape = int(height), int(width), 3
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    opened = image_from_array(pixels, name="noise", rgb=True)
    limit = MemoryBudget("cpu", int(budget) * MB, int(budget) * MB)
    figures: dict[str, object] = {}
    with LabelStore.create(None, opened, legend) as store, added() as mb:
        start = time.monotonic()
        for event in segment(
            opened, checkpoint, store, SegmentSettings("cpu", scale=1), limit
        ):
            match event:
                case Planned(plan):
                    figures["plan"] = plan.summary()
                    figures["said"] = plan.estimate.device_bytes / MB
                case Finished():
                    figures["seconds"] = time.monotonic() - start
    figures["measured"] = mb[0]
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
