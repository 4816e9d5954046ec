"""Any sequence of what a person can do shows what a plain array would show.

The store is a real one, its limits made small: parts of 64 pixels, segments of the
journal of 3 kB, counts saved every third record, levels down to 40 pixels.
"""

import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from helpers.label_stores import RUN, FakeImage
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.corrections.mask_import import MaskReader
from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels import pyramid
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.layer_levels import correction_levels, displayed_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Block, LabelClass, Legend, Limits, Polygon, Roi, Stroke

SHAPE = (150, 131)
WHOLE = Roi(0, 0, *SHAPE)
LEGEND = Legend(tuple(LabelClass(i, f"class {i}", "#102030") for i in range(1, 5)))

LIMITS = Limits(
    coarsest_level=40,
    correction_cell=16,
    correction_tile=64,
    journal_segment_bytes=3000,
    snapshot_interval=3,
)

classes = st.integers(0, 4)
seeds = st.integers(0, 2**16)
rois = st.builds(
    Roi, st.integers(-20, 150), st.integers(-20, 131),
    st.integers(1, 140), st.integers(1, 140),
)  # fmt: skip
points = st.tuples(st.integers(-40, 340), st.integers(-40, 300)).map(
    lambda p: (p[0] / 2, p[1] / 2)
)
rings = st.lists(points, min_size=3, max_size=6).map(tuple)
polygons = st.builds(Polygon, rings, st.lists(rings, max_size=2).map(tuple))
regions = rois | polygons


@st.composite
def strokes(draw):
    level = draw(st.integers(0, 2))
    step = 2**level
    roi = draw(rois).align(step)
    shape = roi.height // step, roi.width // step
    rng = np.random.default_rng(draw(seeds))
    mask = rng.random(shape) < draw(st.sampled_from([0.02, 0.5, 1]))
    ids = np.full(shape, draw(classes), np.uint8)
    if draw(st.booleans()):
        ids = rng.integers(0, 5, shape, np.uint8)
    return Stroke(roi, mask, ids, level)


class Painting(RuleBasedStateMachine):
    """A store, and plain arrays that the same is done to."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "0.zarr"

    @initialize()
    def begin(self):
        image = FakeImage(shape=SHAPE)
        self.store = LabelStore.create(self.path, image, LEGEND, LIMITS)
        self.run = self.store.run_ledger.start_run(RUN)
        self.corrections = Corrections.open(self.store, limits=LIMITS)
        self.prediction = np.zeros(SHAPE, np.uint8)
        self.correction = np.zeros(SHAPE, np.uint8)
        self.before, self.after = [], []
        self.aliases, self.table = {}, np.arange(256, dtype=np.uint8)
        self.look()

    def look(self):
        """What a window holds on to while things change below it."""
        self.levels, self.alone = (
            displayed_levels(self.store),
            correction_levels(self.store),
        )

    def becomes(self, correction):
        """A step, unless it changes nothing."""
        if (correction != self.correction).any():
            self.before.append(self.correction)
            self.correction = correction
            self.after = []

    def painted(self, stroke):
        step = 2**stroke.level
        mask, ids = (
            np.kron(x, np.ones((step, step), x.dtype))
            for x in (stroke.mask, stroke.ids)
        )
        there = stroke.roi.intersect(WHOLE)
        part = there.shift(-stroke.roi.y, -stroke.roi.x).slices
        wanted = self.correction.copy()
        if there.area:
            wanted[there.slices][mask[part]] = ids[part][mask[part]]
        return wanted

    # -- what can be done -------------------------------------------------------

    @rule(stroke=strokes())
    def paint(self, stroke):
        changed = self.corrections.apply(stroke)
        wanted = self.painted(stroke)
        ys, xs = np.nonzero(wanted != self.correction)
        assert bool(changed.area) == bool(len(ys))
        if len(ys):
            assert changed.contains(Roi(ys[0], xs.min(), 1, 1))
            assert changed.contains(Roi(ys[-1], xs.max(), 1, 1))
        self.becomes(wanted)

    @rule(region=regions, class_id=classes)
    def fill(self, region, class_id):
        list(self.corrections.fill(region, class_id))
        self.becomes(np.where(rasterize(region, WHOLE), class_id, self.correction))

    @rule(region=regions)
    def revert(self, region):
        list(self.corrections.revert(region))
        self.becomes(np.where(rasterize(region, WHOLE), 0, self.correction))

    @precondition(lambda self: self.correction.any())
    @rule(which=st.integers(0, 20))
    def revert_a_place(self, which):
        places = self.corrections.corrected_regions()
        place = places[which % len(places)]
        cells = np.zeros(SHAPE, bool)
        for part in place.parts:
            cells[part.slices] = True
        others = sum(sum(p.pixels.values()) for p in places if p is not place)
        list(self.corrections.revert(place))
        self.becomes(np.where(cells, 0, self.correction))
        assert np.count_nonzero(self.correction) == others

    @rule(region=regions)
    def confirm(self, region):
        list(self.corrections.confirm(region))
        new = rasterize(region, WHOLE) & (self.correction == 0)
        self.becomes(np.where(new, self.table[self.prediction], self.correction))

    @rule(seed=seeds, at=rois)
    def import_mask(self, seed, at):
        rng = np.random.default_rng(seed)
        array = rng.integers(0, 4, (at.height, at.width), np.uint8) * 10
        image = image_from_array(array, name="mask")
        mask = MaskReader(image, SHAPE, (1, 0, -at.x, 0, 1, -at.y))
        list(self.corrections.import_labels(mask, {10: 3, 20: 0}))
        wanted = self.correction.copy()
        there = at.intersect(WHOLE)
        part = array[there.shift(-at.y, -at.x).slices]
        if there.area:
            wanted[there.slices][part == 10] = 3
            wanted[there.slices][part == 20] = 0
        self.becomes(wanted)

    @rule()
    def undo(self):
        roi = self.corrections.undo()
        assert (roi is None) == (not self.before)
        if self.before:
            self.after.append(self.correction)
            self.correction = self.before.pop()

    @rule()
    def redo(self):
        roi = self.corrections.redo()
        assert (roi is None) == (not self.after)
        if self.after:
            self.before.append(self.correction)
            self.correction = self.after.pop()

    @rule(seed=seeds)
    def run_writes(self, seed):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 5, SHAPE, np.uint8)
        self.store.write(Block(WHOLE, labels, labels), self.run.id, "done")
        self.prediction = labels

    @rule(one=st.integers(1, 4), other=st.integers(1, 4))
    def merge(self, one, other):
        if one != other and self.aliases.get(other) == one:
            with pytest.raises(ValueError, match="cannot be merged"):
                self.store.legend_editor.merge_class(one, other)
            return
        self.store.legend_editor.merge_class(one, other)
        self.aliases.pop(one, None)
        if one != other:
            target = self.aliases.get(other, other)
            self.aliases = {
                k: target if v == one else v for k, v in self.aliases.items()
            } | {one: target}
        self.table = np.array([self.aliases.get(i, i) for i in range(256)], np.uint8)

    @rule()
    def reopen(self):
        self.corrections.close()
        self.store.close()
        self.open()

    @rule()
    def killed(self):
        """Continue with a copy of the files, which is what a killed process leaves."""
        old = self.path
        self.path = self.folder / f"{int(old.stem) + 1}.zarr"
        shutil.copytree(old, self.path)
        self.corrections.close()
        self.store.close()
        shutil.rmtree(old)
        self.open()

    @rule(stroke=strokes(), count=st.integers(0, 2), killed=st.booleans())
    @precondition(lambda self: (self.correction == 0).any())
    def disk_fails(self, stroke, count, killed):
        """The arrays cannot be written, some of the way; the journal could."""
        wanted = self.painted(stroke)
        small = stroke.roi.intersect(WHOLE).area < 64 and (
            stroke.roi.align(64).area == 64 * 64
        )
        if not small or (wanted == self.correction).all():
            return
        write = pyramid.write_chunks

        def failing(array, key, data):
            if str(array.store_path).endswith(f"correction/{count}"):
                raise OSError(28, "No space left on device")
            write(array, key, data)

        message = r"No space left on device.*The change is kept"
        with (
            patch.object(pyramid, "write_chunks", failing),
            pytest.raises(StoreError, match=message),
        ):
            self.corrections.apply(stroke)
        self.becomes(wanted)
        if killed:
            self.killed()
        else:
            self.paint(Stroke(Roi(0, 0, 1, 1), np.ones((1, 1), bool),
                              np.full((1, 1), 4, np.uint8)))  # fmt: skip

    def open(self):
        self.store = LabelStore.open(self.path, write=True)
        self.corrections = Corrections.open(self.store, limits=LIMITS)
        self.look()

    # -- what must be true --------------------------------------------------------

    @invariant()
    def all_levels_are_right(self):
        prediction, correction = self.prediction, self.correction
        for shown, alone in zip(self.levels, self.alone, strict=True):
            np.testing.assert_array_equal(alone[:], self.table[correction])
            np.testing.assert_array_equal(
                shown[:], self.table[np.where(correction, correction, prediction)]
            )
            prediction, correction = map(coarser_labels, (prediction, correction))
        assert len(self.levels) == 3

    @invariant()
    def counts_are_right(self):
        counts = np.bincount(self.table[self.correction].ravel(), minlength=5)
        wanted = {i: int(n) for i, n in enumerate(counts) if i and n}
        assert self.corrections.counts() == wanted
        places = self.corrections.corrected_regions()
        for class_id in wanted:
            assert sum(p.pixels.get(class_id, 0) for p in places) == wanted[class_id]
        assert self.corrections.can_undo == bool(self.before)
        assert self.corrections.can_redo == bool(self.after)

    def teardown(self):
        if hasattr(self, "store"):
            self.corrections.close()
            self.store.close()
        shutil.rmtree(self.folder, ignore_errors=True)


TestPainting = pytest.mark.slow(Painting.TestCase)
TestPainting.settings = settings(
    max_examples=5,
    stateful_step_count=20,
    suppress_health_check=list(HealthCheck),
)
