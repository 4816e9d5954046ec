"""Execution of journal records on the arrays of the corrections.

This is write-ahead logging: each record is in the journal before the arrays change.
Records that a killed process did not execute are executed at the next opening.
Executing a record twice has no further effect. See Mohan et al., "ARIES: A transaction
recovery method", ACM TODS 1992, for the technique in databases.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.correction_counts import CorrectionCounts
from napari_uhrseg.io.corrections.journal import (
    Journal,
    JournalEntry,
    JournalPatch,
    UndoStep,
)
from napari_uhrseg.io.labels.disk_layout import CORRECTION, Levels, open_corrections
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import read_array, write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.paths import error_text
from napari_uhrseg.types import Labels, Limits, Roi

FOLDER = ".corrections"


class JournalReplay:
    """Journal of a store, with the arrays and the counts that follow from it.

    Its user serialises all calls.

    Parameters
    ----------
    store
        The label store.
    limits
        Sizes of the journal, the interval of snapshots and the size of count cells.

    Attributes
    ----------
    journal
        The journal; `load` reads it.
    done
        Number of the last executed record.
    """

    def __init__(self, store: LabelStore, limits: Limits) -> None:
        self._store = store
        self._folder = store.path / FOLDER
        self._limits = limits
        self.journal = Journal(self._folder, limits)
        self.done = 0
        self._loaded = False
        self._saved = 0  # the last record in the saved counts
        self._counts: CorrectionCounts | None = None
        self._levels: Levels = ()

    @property
    def unfinished(self) -> bool:
        """True if the journal has records that the arrays do not have."""
        return self._loaded and self.journal.last > self.done

    def load(self, *, write: bool) -> None:
        """Read the journal. For writing, execute the records that are left.

        Raises
        ------
        StoreError
            If the corrections are damaged or cannot be written.
        """
        store = self._store
        with self.translated_errors():
            self._levels = open_corrections(
                store.path, store.shape, len(store.correction), write=write
            )
            self.journal.load(write=write)
            if not write:
                self.done = self.journal.last
                self._loaded = True
                return
            saved = CorrectionCounts.load(
                self._folder / "counts.npz", store.shape, self._limits.correction_cell
            )
            if saved is not None:
                self._counts, self.done = saved
                self._saved = self.done
                self.journal.last = max(self.journal.last, self.done)
            self._loaded = True
            self.catch_up()

    def read(self, roi: Roi) -> Labels:
        """Return the corrections in a level-0 rectangle."""
        return read_array(self._levels[0], roi.slices)

    def counts(self) -> CorrectionCounts:
        """Return the counts; read from the arrays if they are not known."""
        if self._counts is None:
            folder = self._store.path / CORRECTION / "0"
            self._counts = CorrectionCounts.from_array(
                self._levels[0], folder, self._limits.correction_cell
            )
        return self._counts

    def append(self, step: int, patch: JournalPatch) -> int:
        """Journal and execute a patch. Return the id of its step.

        The patch becomes a part of ``step`` if that is the last step, otherwise it
        begins a new step.
        """
        steps = self.journal.undoable
        continues = bool(steps) and steps[-1].id == step
        if not continues:
            step = self.journal.last + 1
        entry = self.journal.append("part" if continues else "begin", step, patch)
        self._write(patch, "redo")
        self._finish(entry)
        return step

    def undo_or_redo(
        self, direction: Literal["undo", "redo"], step: UndoStep
    ) -> Iterator[float]:
        """Journal and execute an undo or redo, patch by patch.

        Closing the generator journals and executes the opposite.

        Yields
        ------
        Completed share, from 0 to 1.
        """
        entry = self.journal.append(direction, step.id)
        done = 0
        try:
            for done, part in enumerate(step.parts):
                if done:
                    yield done / len(step.parts)
                self._write(self.journal.read(part), direction)
        except GeneratorExit:
            opposite: Literal["undo", "redo"] = (
                "redo" if direction == "undo" else "undo"
            )
            entry = self.journal.append(opposite, step.id)
            for part in step.parts[:done]:
                self._write(self.journal.read(part), opposite)
            self._finish(entry)
            raise
        self._finish(entry)

    def catch_up(self) -> None:
        """Execute the records that were not executed; usually there are none."""
        left = [e for e in self.journal.tail if e.number > self.done]
        if left and left[0].number > self.done + 1:
            self._counts = None  # counted again: records in between are missing
        for entry in left:
            self._execute(entry)
            self.done = entry.number
        # not in between: the arrays may already have the changes of later records
        if left:
            self._finish(left[-1])

    def save_counts(self) -> None:
        """Save the counts with the number of the last executed record.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        folder = self._folder
        assert isinstance(folder, Path)  # corrections in an object store are read-only
        self.counts().save(folder / "counts.npz", self.done)
        self._saved = self.done

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Convert an OSError to a StoreError that reports if the change is kept."""
        try:
            yield
        except OSError as error:
            self._counts = None
            kept = (
                "The change is kept, and shown with the next one or on opening."
                if self.unfinished
                else "This change was not kept, all earlier ones are."
            )
            raise StoreError(
                f"Corrections cannot be written to {self._store.path}: "
                f"{error_text(error)}.",
                f"Free some space or check the disk. {kept}",
            ) from error

    def _execute(self, entry: JournalEntry) -> None:
        """Execute a record."""
        if entry.kind in ("begin", "part"):
            self._write(self.journal.read(entry), "redo")
            return
        step = self.journal.step(entry)
        for part in () if step is None else step.parts:
            self._write(self.journal.read(part), entry.kind)

    def _write(self, patch: JournalPatch, direction: str) -> None:
        mask, new = patch.enlarged()
        removed, added = (patch.old, np.where(mask, new, 0))
        if direction == "undo":
            removed, added = added, removed
        present = self.read(patch.roi)
        data = np.where(mask, added, present)
        top = write_levels(self._levels, patch.roi, data, coarser_labels)
        self._store.refresh_coarsest(top)
        if self._counts is not None:
            self._counts.add(patch.roi, removed, -1)
            self._counts.add(patch.roi, added)

    def _finish(self, entry: JournalEntry) -> None:
        self.done = entry.number
        if entry.number - self._saved < self._limits.snapshot_interval:
            return
        # the change is complete; a failure here is retried after the next change
        with suppress(OSError):
            self.save_counts()
            self.journal.trim()
