"""Undo and redo of one step of the corrections, tile by tile."""

from collections.abc import Iterator
from typing import Literal

from napari_uhrseg.io.corrections.journal import Journal, UndoStep
from napari_uhrseg.io.corrections.replay import JournalReplay

Direction = Literal["undo", "redo"]


def next_step(journal: Journal, direction: Direction) -> UndoStep | None:
    """Return the step that is undone or redone next; None if there is none."""
    steps = journal.undoable if direction == "undo" else journal.redoable
    return steps[-1] if steps else None


def undo_or_redo(
    replay: JournalReplay, direction: Direction, step: UndoStep
) -> Iterator[float]:
    """Journal and execute an undo or redo, patch by patch.

    Closing the generator journals and executes the opposite.

    Parameters
    ----------
    replay
        The journal, and the arrays that it changes.
    direction
        ``"undo"`` or ``"redo"``.
    step
        The step that `next_step` returns for the direction.

    Yields
    ------
    Completed share, from 0 to 1.
    """
    replay.journal.append(direction, step.id)
    done = 0
    try:
        for done, part in enumerate(step.parts):
            if done:
                yield done / len(step.parts)
            replay.execute(part, direction)
    except GeneratorExit:
        opposite: Direction = "redo" if direction == "undo" else "undo"
        replay.journal.append(opposite, step.id)
        for part in step.parts[:done]:
            replay.execute(part, opposite)
        replay.finish()
        raise
    replay.finish()
