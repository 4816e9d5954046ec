"""Measure how the engine's cost grows with the image: 1,024 to 65,536 pixels a side.

The image is virtual (a small tile repeats) and the network is one convolution, so that
the engine is measured: planning, reading, labels and confidence, and writing. Each side
runs once, in a process of its own. Seconds and bytes on the disk should grow linearly,
and memory should stay constant.
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import MB, added, child
from rich.table import Table


@dataclass(frozen=True)
class Size:
    """Sides of the images in pixels."""

    sides: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384, 32768, 65536)


FULL, TINY = Size(), Size((1024,))


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Measure every side; takes no files."""
    del image, checkpoint
    table = Table("pixels", "windows", "seconds", "a megapixel", "memory", "on disk")
    table.add_column("bits a pixel")
    table.title = "How cost grows: a virtual image, a network of one layer"
    for side in size.sides:
        windows, seconds, memory, disk = child(__file__, str(side))
        row = (
            f"{side:,} x {side:,}",
            f"{windows:,}",
            f"{seconds:.2f} s",
            f"{1e9 * seconds / side**2:.1f} ms",
            f"{memory:.0f} MB",
            f"{disk / MB:.1f} MB",
            f"{8 * disk / side**2:.2f}",
        )
        print(*row, flush=True)  # it takes long
        table.add_row(*row)
    return table


def main(side: int) -> None:
    """Print windows, seconds, memory in MB and bytes on the disk, as JSON."""
    import numpy as np
    import torch
    from torch import nn

    from napari_uhrseg.engine.events import Planned
    from napari_uhrseg.engine.inference.segment import segment
    from napari_uhrseg.io.image.from_array import image_from_array
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.models.base import Batch, Outputs, Segmenter
    from napari_uhrseg.models.checkpoint import Checkpoint
    from napari_uhrseg.samples.world import CLASSES
    from napari_uhrseg.types import (
        Card,
        InputSpec,
        Recipe,
        SegmentSettings,
        Stage,
        View,
    )

    class OneLayer(Segmenter):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.spec = InputSpec(views={"local": View(256, 256)}, window=256)
            self.recipe = Recipe(stages=(Stage(1, 0.1),), batch_size=1)
            self.net = nn.Conv2d(3, classes, 3, padding=1)

        def forward(self, batch: Batch) -> Outputs:
            return {"logits": self.net(batch.views["local"])}

        def loss(self, outputs: Outputs, batch: Batch) -> Outputs:
            raise NotImplementedError("it is never trained")

    class Virtual:
        shape, dtype, ndim = (side, side, 3), np.dtype("u1"), 3
        chunks = (512, 512, 3)
        tile = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)

        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            y, x = (np.arange(k.start, k.stop) // 16 % 32 for k in key[:2])
            return np.asarray(self.tile[y[:, None], x])

    torch.manual_seed(0)
    model = OneLayer(len(CLASSES)).eval()
    card = Card("plain", {}, CLASSES, model.spec, name="one layer")
    checkpoint = Checkpoint(model, card, "one layer", Path("one layer"))
    image = image_from_array(Virtual(), name="virtual", rgb=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.zarr"
        with LabelStore.create(path, image, CLASSES) as store, added() as memory:
            events = segment(image, checkpoint, store, SegmentSettings("cpu", scale=1))
            planned = next(events)
            assert isinstance(planned, Planned)
            start = time.monotonic()
            for _ in events:
                pass
            seconds = time.monotonic() - start
        disk = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    print(json.dumps((planned.plan.windows, seconds, memory[0], disk)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
