"""Execution of journal records on the arrays of the corrections.

This is write-ahead logging: each record is in the journal before the arrays change.
Records that a killed process did not execute are executed at the next opening.
Executing a record twice has no further effect. See Mohan et al., "ARIES: A transaction
recovery method", ACM TODS 1992, for the technique in databases.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.counts.corrected_regions import RegionFinder
from napari_uhrseg.io.corrections.counts.correction_counts import CorrectionCounts
from napari_uhrseg.io.corrections.damaged_chunks import loss_text, set_aside
from napari_uhrseg.io.corrections.journal import Journal, JournalEntry
from napari_uhrseg.io.corrections.journal_record import JournalPatch
from napari_uhrseg.io.labels.disk_layout import CORRECTION, Levels, open_corrections
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import read_array, write_levels
from napari_uhrseg.io.labels.repair import rebuild_coarser
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.labels.store_files import chunk_files
from napari_uhrseg.io.paths import error_text
from napari_uhrseg.types import CorrectedRegion, Labels, Limits, Roi

FOLDER = ".corrections"

logger = logging.getLogger(__name__)


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
    loss
        Sentence about changes that cannot be undone any more since another program has
        changed the journal; empty without a loss. Only one opening reports a loss.
    """

    def __init__(self, store: LabelStore, limits: Limits) -> None:
        self._store = store
        self._folder = store.path / FOLDER
        self._limits = limits
        self.journal = Journal(self._folder, store.shape, limits)
        self.done = 0
        self.loss = ""
        self._loaded = False
        self._saved = 0  # the last record in the saved counts
        self._saved_total: int | None = None  # corrected pixels in the saved counts
        self._counts: CorrectionCounts | None = None
        self._levels: Levels = ()
        self._regions: RegionFinder | None = None

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
            lost = self._set_damage_aside() if write else []
            self.journal.load(write=write)
            if not write:
                self.done = self.journal.last
                self._loaded = True
                return
            self._load_counts()
            self._loaded = True
            self.catch_up()
            if lost:
                self._restore(lost)

    def _set_damage_aside(self) -> list[Roi]:
        """Replace damaged parts of the arrays, and return their rectangles."""
        store = self._store
        assert isinstance(self._folder, Path)  # URLs are read-only
        lost = set_aside(store, self._levels, self._folder)
        rebuild_coarser(store.path / CORRECTION, self._levels, coarser_labels)
        return lost

    def _restore(self, lost: list[Roi]) -> None:
        """Execute the steps of the journal in damaged chunks, and report the loss."""
        # counts that were read again do not contain the damaged chunks
        again = self._counts is None or bool(self.loss)
        before = self._saved_total if again else self._corrected()
        for step in self.journal.undoable:
            for part in step.parts:
                if any(part.roi.intersect(roi).area for roi in lost):
                    self._execute_again(part, "redo")
        self._counts = None
        text = loss_text(self._store, lost, before, self._corrected())
        self.loss = f"{self.loss} {text}".strip()
        logger.warning("%s", text)
        with suppress(OSError):  # they are counted again at the next opening
            self.save_counts()

    def _corrected(self) -> int:
        """Return the number of corrected pixels."""
        return sum(self.counts().by_class({}).values())

    def _load_counts(self) -> None:
        """Load the saved counts if they belong to the journal.

        If records after the counts are missing, another program has changed the
        journal. The arrays have these changes, so they are kept and counted again.
        """
        file = self._folder / "counts.npz"
        journal, shape = self.journal, self._store.shape
        saved = CorrectionCounts.load(file, shape, self._limits.correction_cell)
        if saved is not None:
            self._counts, self.done = saved
            self._saved_total = self._corrected()
        lost = max(0, self.done - journal.last)
        if lost or journal.incomplete or journal.damaged:
            self._counts = None
        self.done = self._saved = min(self.done, journal.last)
        if lost or journal.damaged:
            self._report_loss(lost)
            file.unlink(missing_ok=True)  # so that the next opening reports no loss
            with suppress(OSError):
                self.save_counts()

    def _report_loss(self, lost: int) -> None:
        """Warn about changes that cannot be undone any more."""
        changes = f"{lost} changes" if lost else "its older changes"
        self.loss = (
            f"The undo history of {self._store.path} is damaged: {changes} cannot be "
            "undone any more. All labels are kept."
        )
        logger.warning("%s", self.loss)

    def read(self, roi: Roi) -> Labels:
        """Return the corrections in a level-0 rectangle."""
        return read_array(self._levels[0], roi.slices)

    def corrected_tiles(self, side: int) -> list[Roi]:
        """Return the tiles of a side, inside chunks of corrections that have a file."""
        level, image = self._levels[0], Roi(0, 0, *self._store.shape)
        width = level.chunks[0]
        files = chunk_files(self._store.path / CORRECTION, level)
        chunks = (Roi(y * width, x * width, width, width) for (y, x), _ in files)
        return [t for chunk in chunks for t in chunk.intersect(image).tiles(side)]

    def counts(self) -> CorrectionCounts:
        """Return the counts; read from the arrays if they are not known."""
        if self._counts is None:
            self._counts = CorrectionCounts.from_array(
                self._levels[0],
                self._store.path / CORRECTION,
                self._limits.correction_cell,
            )
        return self._counts

    def regions(self) -> tuple[CorrectedRegion, ...]:
        """Return the corrected regions, the largest first."""
        if self._regions is None:
            self._regions = RegionFinder(self._levels)
        return self._regions.find(self.counts(), self._store.aliases)

    def append(self, step: int, patch: JournalPatch) -> int:
        """Journal and execute a patch. Return the id of its step.

        The patch becomes a part of ``step`` if that is the last step, otherwise it
        begins a new step.
        """
        steps = self.journal.undoable
        continues = bool(steps) and steps[-1].id == step
        if not continues:
            step = self.journal.last + 1
        self.journal.append("part" if continues else "begin", step, patch)
        self._write(patch, "redo")
        self.finish()
        return step

    def append_step(self, patches: Iterable[JournalPatch]) -> Roi | None:
        """Journal all patches of a new step, or none, and then execute them.

        Returns
        -------
        Bounding box of the patches; None if there are none.
        """
        if not self.journal.append_step(patches):
            return None
        step = self.journal.undoable[-1]
        for part in step.parts:
            self.execute(part, "redo")
        self.finish()
        return step.bounds

    def execute(self, part: JournalEntry, direction: Literal["undo", "redo"]) -> None:
        """Write a patch of the journal to the arrays; see `finish`.

        Raises
        ------
        StoreError
            If the journal is damaged there.
        """
        try:
            patch = self.journal.read(part)
        except ValueError as error:
            raise StoreError(
                f"The journal of {self._store.path} is damaged: {error}.",
                "All labels are kept, but this step cannot be undone.",
            ) from error
        self._write(patch, direction)

    def finish(self) -> None:
        """Note that all records are executed; save the counts from time to time."""
        self.done = self.journal.last
        if self.done - self._saved < self._limits.snapshot_interval:
            return
        # the change is complete; a failure here is retried after the next change
        with suppress(OSError):
            self.save_counts()
            self.journal.trim()

    def catch_up(self) -> None:
        """Execute the records that were not executed; usually there are none."""
        left = [e for e in self.journal.tail if e.number > self.done]
        if left and left[0].number > self.done + 1:
            self._counts = None  # counted again: records in between are missing
        for entry in left:
            self._recover(entry)
            self.done = entry.number
        # not in between: the arrays may already have the changes of later records
        if left:
            self.finish()

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
        """Convert an OSError to a StoreError that reports if the change is kept.

        A change is kept if the journal received it in this block.
        """
        before = self.journal.last
        try:
            yield
        except OSError as error:
            self._counts = None
            kept = (
                "The change is kept: it is displayed with the next one, or at the next "
                "opening."
                if self._loaded and self.journal.last > before
                else "This change was not kept, all earlier ones are."
            )
            raise StoreError(
                f"Corrections cannot be written to {self._store.path}: "
                f"{error_text(error)}.",
                f"Free some space or check the disk. {kept}",
            ) from error

    def _recover(self, entry: JournalEntry) -> None:
        """Execute a record, which may have been executed before."""
        parts, direction = [entry], "redo"
        if entry.kind in ("undo", "redo"):
            step, direction = self.journal.step(entry), entry.kind
            parts = [] if step is None else step.parts
        for part in parts:
            self._execute_again(part, direction)

    def _execute_again(self, part: JournalEntry, direction: str) -> None:
        """Write a patch that may have been written before; leave out a damaged one."""
        try:
            patch = self.journal.read(part)
        except ValueError as error:  # it cannot block all later changes
            self._counts = None
            logger.warning(
                "A change of %s is damaged and left out: %s.",
                self._store.path, error,
            )  # fmt: skip
        else:
            self._write(patch, direction, again=True)

    def _write(
        self, patch: JournalPatch, direction: str, *, again: bool = False
    ) -> None:
        """Write the labels after a change where the labels before it are present.

        Other labels come from changes that the journal has lost; they stay. If
        ``again`` is True, the arrays may be ahead of this change, and all of its
        pixels are written.
        """
        mask, new = patch.enlarged()
        before, after = (patch.old, new) if direction == "redo" else (new, patch.old)
        present = self.read(patch.roi)
        if not again:
            mask = mask & (present == before)
        removed, added = np.where(mask, before, 0), np.where(mask, after, 0)
        data = np.where(mask, after, present)
        top = write_levels(self._levels, patch.roi, data, coarser_labels)
        self._store.refresh_coarsest(top)
        if self._regions is not None:
            self._regions.forget(patch.roi)
        self._count(patch.roi, removed, added)

    def _count(self, roi: Roi, removed: Labels, added: Labels) -> None:
        """Update the counts by the corrections that a change removes and adds."""
        if self._counts is None:
            return
        try:
            self._counts.add(roi, removed, -1)
            self._counts.add(roi, added)
        except ValueError:  # they belong to another journal
            self._counts = None
