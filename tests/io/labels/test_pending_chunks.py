"""Tests of the chunks that are left for a run."""

from dataclasses import replace

import numpy as np

from helpers.label_stores import OTHER, RUN
from napari_uhrseg.io.labels.chunk_status import encode
from napari_uhrseg.io.labels.pending_chunks import (
    pending_chunks,
    runs_with_other_settings,
)
from napari_uhrseg.types import Polygon, Roi

SHAPE = (5000, 3100)
GRID = (5, 4)


def test_pending_excludes_chunks_of_runs_with_same_settings():
    whole = replace(RUN, id=1)
    part = replace(RUN, id=2, region=Roi(0, 0, 1500, 5000))
    shape = replace(RUN, id=3, region=Polygon(((0, 0), (0, 3000), (3000, 0))))
    other = replace(OTHER, id=4)
    states = np.zeros(GRID, np.uint32)
    states[0] = encode(2, "done")
    states[1, :2] = encode(2, "done")
    states[2] = [encode(i, "done") for i in (1, 3, 4, 1)]
    states[3] = [encode(1, s) for s in ("done", "empty", "failed", "done")]
    records = (whole, part, shape, other)
    todo = pending_chunks(states, records, whole, SHAPE)
    assert todo.tolist() == [
        [False] * 4,  # all of these chunks lies in the other run's region
        [True] * 4,  # these do not
        [False, True, True, False],  # a drawn shape, another model
        [False, False, True, False],  # failed is to be done again
        [True] * 4,
    ]
    assert pending_chunks(states, records, part, SHAPE)[:2].tolist() == [
        [False] * 4, [False, False, True, True]
    ]  # fmt: skip
    assert [r.id for r in runs_with_other_settings(states, records, whole, SHAPE)] == [
        4
    ]
    assert runs_with_other_settings(states, records, part, SHAPE) == ()
    assert [r.id for r in runs_with_other_settings(states, records, other, SHAPE)] == [
        1,
        2,
        3,
    ]
