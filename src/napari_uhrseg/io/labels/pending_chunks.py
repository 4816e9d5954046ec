"""Chunks that are left for a run, and the other runs that wrote chunks of its region.

All arrays here are (chunk rows, chunk columns), as in `chunk_status`.
"""

from collections.abc import Sequence

import numpy as np

from napari_uhrseg.io.labels.chunk_status import (
    States,
    chunks_inside,
    chunks_touching,
    has_status,
    run_ids,
)
from napari_uhrseg.types import BoolMask, Run


def pending_chunks(
    states: States, runs: Sequence[Run], run: Run, shape: tuple[int, int]
) -> BoolMask:
    """Return the chunks that a run still has to label, including failed ones.

    A chunk is finished if this run wrote it, or a run with the same settings whose
    region contains the whole chunk.

    Parameters
    ----------
    states
        Status of all chunks.
    runs
        All recorded runs.
    run
        The recorded run.
    shape
        Height and width of the image in pixels.

    Returns
    -------
    bool, (chunk rows, chunk columns).
    """
    finished = has_status(states, "done", "empty")
    by = run_ids(states)
    done = by == run.id
    for other in runs:
        if other.id != run.id and other.same_settings(run):
            done |= (by == other.id) & chunks_inside(other.region, shape)
    return np.asarray(chunks_touching(run.region, shape) & ~(finished & done), bool)


def runs_with_other_settings(
    states: States, runs: Sequence[Run], run: Run, shape: tuple[int, int]
) -> tuple[Run, ...]:
    """Return the runs with other settings that labelled chunks of a run's region.

    Parameters
    ----------
    states
        Status of all chunks.
    runs
        All recorded runs.
    run
        The new run.
    shape
        Height and width of the image in pixels.

    Returns
    -------
    Recorded runs, in the order of their numbers.
    """
    mask = chunks_touching(run.region, shape) & has_status(states, "done")
    ids = set(np.unique(run_ids(states)[mask]).tolist())
    return tuple(r for r in runs if r.id in ids and not r.same_settings(run))
