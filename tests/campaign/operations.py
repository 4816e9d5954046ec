"""Long operations that the campaign disturbs, and the checks of what they leave.

Each operation reads what `prepare` wrote to the folder ``in`` and writes to the folder
``out``. The same call continues a disturbed operation.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
import torch

from campaign.operation import Operation, Say, content, digest
from campaign.trainings import (
    fine_tune_small,
    prepare_corrected,
    train_small,
    training,
)
from helpers import corrections as squared
from helpers import export_stores
from helpers.label_stores import (
    FakeImage,
    assert_levels_consistent,
)
from helpers.networks import LEGEND, FrameNet, ToyNet, make_checkpoint
from helpers.segmentation import BUDGET, SETTINGS, noise_image
from napari_uhrseg.engine.events import BlockDone
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.export import export
from napari_uhrseg.io.export.registry import formats
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.image.pyramid_builder import attach_levels, fill_levels
from napari_uhrseg.io.labels.chunk_status import has_status
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import (
    LabelClass,
    Legend,
    Roi,
    SegmentSettings,
    Stroke,
)

# -- segment --------------------------------------------------------------------------

STORE = Path("out", "labels.zarr")


def segmentation(
    load: Callable[[Path], tuple[Image, Checkpoint]],
    legend: Legend,
    settings: SegmentSettings = SETTINGS,
) -> Operation:
    """Return a segmentation of an image, both loaded from the input folder."""

    def prepare(folder: Path) -> None:
        LabelStore.create(folder / STORE, load(folder / "in")[0], legend).close()

    def work(folder: Path, say: Say, start: int) -> None:
        image, checkpoint = load(folder / "in")
        with LabelStore.open(folder / STORE, write=True) as store:
            for event in segment(image, checkpoint, store, settings, BUDGET):
                if isinstance(event, BlockDone):
                    say(event.done)

    def check(folder: Path, reference: Path, said: int) -> int:
        with (
            LabelStore.open(folder / STORE, write=True) as store,
            LabelStore.open(reference / STORE) as whole,
        ):
            for level in (*store.prediction, *store.confidence):
                level[:]  # every chunk decodes
            done = has_status(store.chunk_status(), "done")
            for row, column in np.argwhere(done).tolist():
                where = Roi(row * 1024, column * 1024, 1024, 1024).slices
                np.testing.assert_array_equal(
                    store.prediction[0][where], whole.prediction[0][where]
                )
        return 0

    def result(folder: Path) -> str:
        with LabelStore.open(folder / STORE) as store:
            levels = store.prediction[0], store.prediction[-1], store.confidence[0]
            return digest(*(np.asarray(level[:]) for level in levels))

    return Operation(STORE.name, prepare, work, check, result)


def noise_with(model: Callable[[], torch.nn.Module], _: Path) -> tuple:
    return noise_image(2100, 1500, 9), make_checkpoint(model())


# few windows, so that a run takes seconds
LARGE_WINDOWS = {
    "glnet": {"patch": 256, "overview": 128, "frame": 512},
    "sgnet": {"window": 256},
}


def squares_with(method: str, folder: Path) -> tuple:
    path = folder / f"{method}0.safetensors"
    if not path.exists():
        squared.checkpoint(folder, method, **LARGE_WINDOWS[method])
    return squared.squares((1088, 1088))[1], load_checkpoint(path)


# -- overviews and exports ------------------------------------------------------------


def prepare_untiled(folder: Path) -> None:
    y, x = np.ogrid[:6000, :5000]
    grey = ((y * 7 + x * 13 + y * x // 1000) % 251).astype(np.uint8)
    tifffile.imwrite(folder / "in" / "scan.tif", grey, tile=(512, 512))


def fill_overviews(folder: Path, say: Say, start: int) -> None:
    for _ in fill_levels(open_image(folder / "in" / "scan.tif"), folder / "out"):
        pass


def overviews_digest(folder: Path) -> str:
    image = open_image(folder / "in" / "scan.tif")
    if not attach_levels(image, folder / "out"):
        return "incomplete"
    return digest(*(np.asarray(level) for level in image.levels[1:]))


def check_overviews(folder: Path, reference: Path, said: int) -> int:
    found = overviews_digest(folder)
    assert found in ("incomplete", overviews_digest(reference)), "other overviews"
    return 0


def exporting(name: str, suffix: str) -> Operation:
    """Return the export of a small store in one format."""
    target = f"labels{suffix}"

    def prepare(folder: Path) -> None:
        image = export_stores.image(export_stores.UTM32)
        export_stores.make_store(folder / "in" / "store.zarr", image).close()

    def work(folder: Path, say: Say, start: int) -> None:
        if not (folder / "out" / target).exists():
            with LabelStore.open(folder / "in" / "store.zarr") as store:
                for _ in export(store, folder / "out" / target, name):
                    pass

    def check(folder: Path, reference: Path, said: int) -> int:
        if (folder / "out" / target).exists():
            assert result(folder) == result(reference), f"{target} is not whole"
        return 0

    def result(folder: Path) -> str:
        return content(folder / "out" / target)

    return Operation(target, prepare, work, check, result)


# -- classes and strokes --------------------------------------------------------------

EDITS = 12
FIRST = Legend((LabelClass(1, "road", "#ff8000"), LabelClass(2, "lake", "#0000ff")))
LARGE = FakeImage((2300, 2300))


def prepare_store(image: FakeImage, folder: Path) -> None:
    LabelStore.create(folder / STORE, image, FIRST).close()


def edit(store: LabelStore, number: int) -> None:
    editor, name = store.legend_editor, f"class {number // 4}"
    found = store.legend.named(name)
    match number % 4:
        case 0:
            editor.add_classes(Legend((LabelClass(1, name, "#123456"),)))
        case 1:
            editor.rename_class(found.id, f"renamed {number}")
        case 2:
            editor.recolor_class(found.id, f"#0000{number:02x}")
        case _:
            editor.merge_class(found.id, 1)


def edit_classes(folder: Path, say: Say, start: int) -> None:
    with LabelStore.open(folder / STORE, write=True) as store:
        for number in range(start, EDITS):
            edit(store, number)
            say(number + 1)


def classes(folder: Path) -> str:
    with LabelStore.open(folder / STORE) as store:
        return repr((store.legend, sorted(store.aliases.items())))


def check_classes(folder: Path, reference: Path, said: int) -> int:
    """Compare the classes with those after the acknowledged edits, or one more."""
    found = classes(folder)
    with LabelStore.create(None, FakeImage((64, 64)), FIRST) as store:
        for number in range(said + 1):
            if number == said and found == repr(
                (store.legend, sorted(store.aliases.items()))
            ):
                return said
            if number < EDITS:
                edit(store, number)
        wanted = repr((store.legend, sorted(store.aliases.items())))
    assert found == wanted, f"edits after {said} acknowledged ones: {found}"
    return min(said + 1, EDITS)


STROKES = 24


def stroke(number: int) -> Stroke | None:
    """Return the stroke of a number; None stands for an undo."""
    rng = np.random.default_rng(number)
    if number % 5 == 4:
        return None
    height, width = (int(n) for n in rng.integers(20, 300, 2))
    y, x = (int(n) for n in rng.integers(1700, 2000, 2))  # some cross pixel 2048
    mask = rng.random((height, width)) < 0.7
    return Stroke(
        Roi(y, x, height, width), mask, rng.integers(1, 3, mask.shape, np.uint8)
    )


def after_strokes(count: int) -> np.ndarray:
    states = [np.zeros(LARGE.shape, np.uint8)]
    for number in range(count):
        found = stroke(number)
        if found is None:
            states.pop()
        else:
            new = states[-1].copy()
            new[found.roi.slices][found.mask] = found.ids[found.mask]
            states = [*states[-1:], new]  # one undo follows at most
    return states[-1]


def paint(folder: Path, say: Say, start: int) -> None:
    with LabelStore.open(folder / STORE) as store, Corrections.open(store) as painting:
        for number in range(start, STROKES):
            found = stroke(number)
            if found is None:
                painting.undo()
            else:
                painting.apply(found)
            say(number + 1)


def check_strokes(folder: Path, reference: Path, said: int) -> int:
    """Compare the corrections with the acknowledged steps, or one more."""
    with LabelStore.open(folder / STORE) as store:
        with Corrections.open(store) as painting:
            found, counts = store.correction[0][:], painting.counts()
            numbers = [n for n in (said, said + 1) if n <= STROKES]
            known = [n for n in numbers if np.array_equal(found, after_strokes(n))]
            assert known, f"corrections are not those of {said} acknowledged steps"
            pixels = {k: int((found == k).sum()) for k in (1, 2)}
            assert counts == {k: n for k, n in pixels.items() if n}, "wrong counts"
        assert_levels_consistent(store)
    return known[0]


def strokes_digest(folder: Path) -> str:
    with LabelStore.open(folder / STORE) as store:
        return digest(np.asarray(store.correction[0][:]))


OPERATIONS: dict[str, Operation] = {
    "windows": segmentation(
        partial(noise_with, partial(ToyNet, window=128)),
        LEGEND,
        replace(SETTINGS, overlap=32),
    ),
    "frames": segmentation(partial(noise_with, FrameNet), LEGEND),
    "glnet": segmentation(partial(squares_with, "glnet"), squared.LEGEND),
    "sgnet": segmentation(partial(squares_with, "sgnet"), squared.LEGEND),
    "train": training(train_small, lambda folder: None),
    "finetune": training(fine_tune_small, prepare_corrected),
    "overviews": Operation(
        "", prepare_untiled, fill_overviews, check_overviews, overviews_digest
    ),
    "classes": Operation(
        STORE.name, partial(prepare_store, FakeImage((64, 64))), edit_classes,
        check_classes, classes,
    ),
    "strokes": Operation(
        STORE.name, partial(prepare_store, LARGE), paint, check_strokes,
        strokes_digest,
    ),
    **{f"export-{f.name}": exporting(f.name, f.suffix) for f in formats()},
}  # fmt: skip


def set_up(folder: Path) -> None:
    """Use one thread, and a cache outside the disturbed folder."""
    torch.set_num_threads(1)
    os.environ["NAPARI_UHRSEG_CACHE"] = str(folder)
