"""The promise: peak memory of a run, above what its process held just before it."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from common import MB, added, child, sample, unet
from rich.table import Table

METHODS = ("plain", "scpseg", "sgnet", "glnet", "isdnet", "ehsnet")
BUDGETS = (8.0, 4.0, 2.0, 1.0)  # GB; then three quarters of what the largest plan said
SIDE = 4096  # pixels a side of the image that is run
LONGEST = 60.0  # seconds; by then every kind of memory has been met


def run(image: Path | None, checkpoint: Path | None) -> Table:
    table = Table("method", "budget", "plan", "said", "measured", "seconds")
    table.title = f"Peak memory on the CPU, {SIDE} x {SIDE} pixels, a process each"
    with tempfile.TemporaryDirectory() as folder:
        methods = [sample(f"{n}.safetensors") for n in METHODS]
        methods += list(_larger(Path(folder)))
        for path in [checkpoint] if checkpoint else methods:
            _rows(table, image, path)
    return table


def _larger(folder: Path) -> Iterator[Path]:
    """Networks that a budget has to shrink: larger windows, larger frames."""
    from napari_uhrseg.models.checkpoint import load_checkpoint, save_checkpoint
    from napari_uhrseg.models.registry import build

    network = unet(1024)
    path = folder / "U-Net on ResNet-34, windows of 1,024.safetensors"
    yield save_checkpoint(path, network.model, network.card)
    for name in ("isdnet", "ehsnet"):
        card = load_checkpoint(sample(f"{name}.safetensors")).card
        arguments = {**card.arguments, "frame": SIDE}
        model = build(name, arguments, card.legend)
        path = folder / f"{name}, frames of {SIDE:,}.safetensors"
        card = replace(card, arguments=arguments, spec=model.spec)
        yield save_checkpoint(path, model, card)


def _rows(table: Table, image: Path | None, path: Path) -> None:
    told = str(image or ""), str(path)
    largest = child(__file__, *told, str(BUDGETS[0]))
    for budget in (*BUDGETS, 0.75 * largest["said"] / 1024):
        found = largest if budget == BUDGETS[0] else child(__file__, *told, str(budget))
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


def main(image: str, path: str, budget: str) -> None:
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

    checkpoint = load_checkpoint(Path(path))
    if image:
        opened = open_image(image)
    else:  # the sample, over and over: a file's pages are no memory of ours
        scene = open_image(sample("scene.tif"))
        side = min(*scene.shape, 1024)
        tile = scene.read(Roi(0, 0, side, side)).data
        times = -(-SIDE // side)
        opened = image_from_array(
            np.tile(tile, (times, times, 1))[:SIDE, :SIDE], name="scene", rgb=True
        )
    limit = MemoryBudget("cpu", int(float(budget) * 1024 * MB), 1024 * MB)
    region = Roi(0, 0, *(min(SIDE, n) for n in opened.shape))
    settings = SegmentSettings(device="cpu", region=region)
    said: dict[str, object] = {"said": 0, "seconds": 0, "measured": 0}
    with (
        LabelStore.create(None, opened, checkpoint.card.legend) as store,
        added() as mb,
    ):
        start = time.monotonic()
        events = segment(opened, checkpoint, store, settings, limit)
        try:
            for event in events:
                said["seconds"] = time.monotonic() - start
                match event:
                    case Planned(plan):
                        said["plan"] = plan.summary()
                        said["said"] = plan.estimate.device_bytes / MB
                    case BlockDone() if time.monotonic() - start > LONGEST:
                        events.close()
        except DeviceError as error:
            said["plan"] = str(error)
    said["measured"] = mb[0]
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
