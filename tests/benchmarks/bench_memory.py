"""Compare the peak memory of a run with its plan's estimate and its budget.

Memory is the peak resident memory above that before the run.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from common import MB, added, child, sample, unet
from rich.table import Table

LONGEST = 60.0  # seconds until a run is stopped; all its buffers are in use by then


@dataclass(frozen=True)
class Size:
    """Sample checkpoints, budgets in GB, and the side of the image in pixels.

    ``larger`` names methods of which a network with large windows or frames is built.
    Each network also runs within three quarters of its largest plan's estimate.
    """

    methods: tuple[str, ...] = ("plain", "scpseg", "sgnet", "glnet", "isdnet", "ehsnet")
    larger: tuple[str, ...] = ("plain", "isdnet", "ehsnet")
    budgets: tuple[float, ...] = (8.0, 4.0, 2.0, 1.0)
    side: int = 4096


FULL, TINY = Size(), Size(("plain",), ("isdnet",), (2.0,), 256)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Run every network within every budget."""
    table = Table("method", "budget", "plan", "said", "measured", "seconds")
    table.title = (
        f"Peak memory on the CPU, {size.side} x {size.side} pixels, a process each"
    )
    with tempfile.TemporaryDirectory() as folder:
        methods = [sample(f"{n}.safetensors") for n in size.methods]
        methods += list(_larger(Path(folder), size))
        for path in [checkpoint] if checkpoint else methods:
            _rows(table, image, path, size)
    return table


def _larger(folder: Path, size: Size) -> Iterator[Path]:
    """Yield networks that do not fit small budgets: large windows, large frames."""
    from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
    from napari_uhrseg.models.registry import build

    for name in size.larger:
        if name == "plain":
            network = unet(1024)
            path = folder / "U-Net on ResNet-34, windows of 1,024.safetensors"
            yield save_checkpoint(path, network.model, network.card)
            continue
        card = load_checkpoint(sample(f"{name}.safetensors")).card
        arguments = {**card.arguments, "frame": size.side}
        model = build(name, arguments, card.legend)
        path = folder / f"{name}, frames of {size.side:,}.safetensors"
        card = replace(card, arguments=arguments, spec=model.spec)
        yield save_checkpoint(path, model, card)


def _rows(table: Table, image: Path | None, path: Path, size: Size) -> None:
    task = str(image or ""), str(path), str(size.side)
    first = size.budgets[0]
    largest = child(__file__, *task, str(first))
    for budget in (*size.budgets, 0.75 * largest["said"] / 1024):
        found = largest if budget == first else child(__file__, *task, str(budget))
        kept = "" if found["measured"] <= budget * 1024 else " over"
        table.add_row(
            path.stem,
            f"{budget:.3g} GB",
            found["plan"],
            f"{found['said']:.0f} MB",
            f"{found['measured']:.0f} MB{kept}",
            f"{found['seconds']:.0f}",
        )
        print(path.stem, f"{budget:.3g} GB", found, flush=True)  # it takes long


def main(image: str, path: str, length: str, budget: str) -> None:
    """Print the plan, its estimate, the memory in MB and the seconds, as JSON.

    Parameters
    ----------
    image
        An image file, or nothing for the sample scene.
    path
        A checkpoint.
    length
        The side of the region in pixels.
    budget
        The memory allowed, in GB.
    """
    import numpy as np

    from napari_uhrseg.engine.events import BlockDone, Planned
    from napari_uhrseg.engine.inference.segment import segment
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.errors import DeviceError
    from napari_uhrseg.io.image.from_array import image_from_array
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.models.checkpoint import load_checkpoint
    from napari_uhrseg.types import Roi, SegmentSettings

    checkpoint, side = load_checkpoint(Path(path)), int(length)
    if image:
        opened = open_image(image)
    else:  # repeated in memory: the pages of a file would be counted
        scene = open_image(sample("scene.tif"))
        tile = scene.read(Roi(0, 0, 1024, 1024)).data
        times = -(-side // 1024)
        opened = image_from_array(
            np.tile(tile, (times, times, 1))[:side, :side], name="scene", rgb=True
        )
    limit = MemoryBudget("cpu", int(float(budget) * 1024 * MB), 1024 * MB)
    region = Roi(0, 0, *(min(side, n) for n in opened.shape))
    settings = SegmentSettings(device="cpu", region=region, scale=1)
    figures: dict[str, object] = {"said": 0, "seconds": 0, "measured": 0}
    with (
        LabelStore.create(None, opened, checkpoint.card.legend) as store,
        added() as mb,
    ):
        start = time.monotonic()
        events = segment(opened, checkpoint, store, settings, limit)
        try:
            for event in events:
                figures["seconds"] = time.monotonic() - start
                match event:
                    case Planned(plan):
                        figures["plan"] = plan.summary()
                        figures["said"] = plan.estimate.device_bytes / MB
                    case BlockDone() if time.monotonic() - start > LONGEST:
                        events.close()
        except DeviceError as error:
            figures["plan"] = str(error)
    figures["measured"] = mb[0]
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
