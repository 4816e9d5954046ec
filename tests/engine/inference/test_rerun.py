"""Segmenting again with another checkpoint, and going back; changes; ancestors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.corrections import checkpoint as network
from helpers.corrections import correct
from helpers.networks import LEGEND, FrameNet, ToyNet, make_checkpoint
from helpers.segmentation import ONE_CHUNK
from napari_uhrseg.engine.cancellation import Cancelled
from napari_uhrseg.engine.events import BlockDone, Finished
from napari_uhrseg.engine.finetuning.lineage import ancestors
from napari_uhrseg.engine.inference.change_priority import (
    PriorityViewport,
    change_priority,
)
from napari_uhrseg.engine.inference.preview import segment_region
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.errors import PlanError
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import save_checkpoint
from napari_uhrseg.types import Block, Roi, SegmentSettings

CPU = SegmentSettings(device="cpu", precision="fp32", limits=ONE_CHUNK)
SHAPE = (STORE_CHUNK + 100, STORE_CHUNK + 50)


def run(image, net, store, **how) -> list[Roi]:
    events = list(segment(image, net, store, CPU, replace_other=True, **how))
    assert isinstance(events[-1], Finished)
    return [e.roi for e in events if isinstance(e, BlockDone)]


def nets():
    """Two checkpoints that label differently."""
    old, new = make_checkpoint(ToyNet(256)), make_checkpoint(ToyNet(256))
    new.model.net.bias.data += new.model.net.bias.data.new_tensor([0.0, 0.5, 0.0])
    return old, replace(new, hash="another")


@pytest.mark.slow
def test_rerun_with_former_checkpoint_runs_only_changed_chunks(picture):
    image = picture(*SHAPE)
    old, new = nets()
    with LabelStore.create(None, image, LEGEND) as store:
        run(image, old, store)
        before = np.asarray(store.prediction[0][:])
        states = store.chunk_status()
        correct(store, Roi(10, 10, 30, 30), 3)
        region = Roi(0, 0, STORE_CHUNK, STORE_CHUNK)
        for _ in segment(image, new, store, replace(CPU, region=region),
                         replace_other=True):  # fmt: skip
            pass
        assert (np.asarray(store.prediction[0][:STORE_CHUNK, :STORE_CHUNK])
                != before[:STORE_CHUNK, :STORE_CHUNK]).any()  # fmt: skip
        assert (store.read_labels(Roi(10, 10, 30, 30)) == 3).all()
        assert (store.chunk_status() != states).sum() == 1
        again = run(image, old, store)
        assert sum(r.area for r in again) == region.area
        assert np.array_equal(np.asarray(store.prediction[0][:]), before)
        assert (store.read_labels(Roi(10, 10, 30, 30)) == 3).all()


@pytest.mark.slow
def test_rerun_starts_with_likely_chunks(picture):
    image = picture(*SHAPE)
    old, new = nets()
    with LabelStore.create(None, image, LEGEND) as store:
        run(image, old, store)
        sure = np.full(SHAPE, 250, np.uint8)
        sure[STORE_CHUNK:, STORE_CHUNK:] = 5  # the chunk at the lower right is not
        shown = np.asarray(store.prediction[0][:])
        store.write(Block(Roi(0, 0, *SHAPE), shown, sure), 1, "done")
        scores = change_priority(store)
        assert scores[1, 1] == 1
        assert scores.sum() == 1
        done = run(image, new, store, only_likely=True)
        assert done == [Roi(STORE_CHUNK, STORE_CHUNK, 100, 50)]
        waiting = store.pending(store.runs[-1])
        assert waiting.sum() == 3
        assert not waiting[1, 1]
        rest = run(image, new, store)
        assert sum(r.area for r in rest) == SHAPE[0] * SHAPE[1] - 100 * 50


def test_priority_viewport_prefers_view():
    scores = np.zeros((4, 4))
    scores[3, 3], scores[0, 3] = 0.9, 0.4
    waiting = np.ones((4, 4), bool)
    view = Roi(0, 0, STORE_CHUNK, STORE_CHUNK // 2)
    focus = PriorityViewport(scores, lambda: waiting, lambda: view)
    corner = Roi(3 * STORE_CHUNK, 3 * STORE_CHUNK, STORE_CHUNK, STORE_CHUNK)
    assert [focus(), focus(), focus(), focus()] == [
        view, corner, Roi(0, 3 * STORE_CHUNK, STORE_CHUNK, STORE_CHUNK), view,
    ]  # fmt: skip


def test_change_priority_is_high_around_corrections():
    black = np.zeros((3 * STORE_CHUNK, 3 * STORE_CHUNK, 3), np.uint8)
    image = image_from_array(black, name="black", rgb=True)
    with LabelStore.create(None, image, LEGEND) as store:
        assert not change_priority(store).any()
        correct(store, Roi(5, 5, 8, 8), 1)
        assert change_priority(store).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "net", [ToyNet(256), FrameNet(512, 64)], ids=["windows", "frames"]
)
def test_segment_region_equals_segment(net, picture):
    image = picture(STORE_CHUNK + 80, STORE_CHUNK + 40)
    loaded = make_checkpoint(net)
    with LabelStore.create(None, image, LEGEND) as store:
        run(image, loaded, store)
        for roi in (
            Roi(100, 200, 150, 90),
            Roi(STORE_CHUNK - 30, STORE_CHUNK - 20, 200, 100),
        ):
            found = segment_region(image, loaded, roi, CPU)
            assert np.array_equal(found, store.read_labels(roi))
    with pytest.raises(PlanError, match="too many"):
        segment_region(image, loaded, Roi(0, 0, 5000, 10), CPU)
    with pytest.raises(PlanError, match="outside"):
        segment_region(image, loaded, Roi(9000, 0, 10, 10), CPU)
    with pytest.raises(Cancelled):
        segment_region(image, loaded, Roi(0, 0, 50, 50), CPU, stop=lambda: True)


def test_ancestors_are_found_by_hash(tmp_path):
    """Renamed and moved, but not changed; the line ends where a file is missing."""
    first = network(tmp_path)
    files = [first.path]
    for n in range(3):
        net = replace(first, card=replace(first.card, parent=_hash(files[-1])))
        files.append(
            save_checkpoint(tmp_path / f"{n}.safetensors", net.model, net.card)
        )
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    files[1] = files[1].rename(elsewhere / "renamed.safetensors")
    assert ancestors(files[3], [elsewhere]) == (files[2], files[1], files[0])
    assert ancestors(files[3]) == (files[2],)
    assert ancestors(files[0]) == ()


def _hash(path: Path) -> str:
    from napari_uhrseg.models.checkpoint import file_hash

    return file_hash(path)
