"""What a person corrects in a store: strokes and fills, undone and redone.

A change is a step of the journal. Each of its parts is on disk there, whole, before
the arrays are touched; what a killed process had written there and not yet done is
done when the corrections are opened again.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.correction_counts import CorrectionCounts
from napari_uhrseg.io.corrections.journal import (
    Journal,
    JournalEntry,
    JournalPatch,
    UndoStep,
)
from napari_uhrseg.io.corrections.mask_import import MaskReader
from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.labels.disk_layout import CORRECTION, open_corrections
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import read_array, write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.labels.write_lock import WriteLock
from napari_uhrseg.io.paths import is_url
from napari_uhrseg.types import CorrectedRegion, Labels, Mask, Region, Roi, Stroke

PART = 2048  # level-0 pixels a side of what is written at once
FOLDER = ".corrections"
SNAPSHOT_EVERY = 32  # records, so that little is carried out anew after a kill

Make = Callable[[Roi], tuple[Mask, Labels]]
Direction = Literal["undo", "redo"]


class Corrections:
    """The corrections of a store, which one process at a time may change.

    They have a lock of their own: a run may write predictions at the same time,
    from this process or another. A change is on disk, whole or not at all, before
    its call returns, and shown at every level then. From several threads, one
    change comes after the other.

    Any change is made in parts of at most 2048 x 2048 pixels, so that memory (some
    100 MB) does not grow with it. The journal keeps the last 64 MB of changes (days
    of strokes), and the last change whatever its size: what is older stays as it is
    and can no longer be undone. A kill loses nothing; a power cut may lose, of the
    arrays, what the system had not written yet.

    Attributes
    ----------
    store
        Whose corrections these are; it may be open for reading only.
    writable
        Whether this object holds the lock.
    """

    def __init__(self, store: LabelStore, *, write: bool) -> None:
        """Use `open`."""
        if write and is_url(store.path):
            raise StoreError(
                f"Corrections cannot be written to {store.path}: strokes are "
                "journalled in files, which an object store has not.",
                "Copy the store to a folder, and correct it there.",
            )
        self.store = store
        self._image = Roi(0, 0, *store.shape)
        self._folder = store.path / FOLDER
        what = f"Corrections of {store.path} are"
        self._lock = WriteLock(store.path, ".corrections.lock", what, write=write)
        self._thread_lock = self._lock.thread_lock
        try:
            with self._in_words():
                self._levels = open_corrections(store.path, store.shape, write=write)
                self._journal = Journal(self._folder, write=write)
                self._take_up()
        except BaseException:
            self._lock.close()
            raise

    @property
    def writable(self) -> bool:
        return self._lock.acquired

    @classmethod
    def open(cls, store: LabelStore, *, write: bool = True) -> Self:
        """The corrections of a store.

        Raises
        ------
        StoreError
            Where another window or process corrects in it, or its folder cannot be
            written.
        """
        return cls(store, write=write)

    def close(self) -> None:
        """Let others correct. May be called twice; waits for a change that goes on."""
        # counts that cannot be saved follow from the journal when it is opened again
        with self._thread_lock, closing(self._lock), suppress(OSError):
            if self.writable and self._done == self._journal.last:
                self._save()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- changing -------------------------------------------------------------

    def apply(self, stroke: Stroke) -> Roi:
        """Put a stroke on disk, and into all levels.

        Returns
        -------
        The level-0 rectangle that may look different now, of area 0 where nothing
        changed: then there is nothing to undo either.

        Raises
        ------
        ValueError
            Where a class is not in the legend.
        StoreError
            The disk is full or cannot be written: the stroke is not there.
        """
        step = 1 << stroke.level

        def make(tile: Roi) -> tuple[Mask, Labels]:
            y, x = (tile.y - stroke.roi.y) // step, (tile.x - stroke.roi.x) // step
            key = (
                slice(y, y + -(-tile.height // step)),
                slice(x, x + -(-tile.width // step)),
            )
            return stroke.mask[key], stroke.ids[key]

        self._check(stroke.ids[stroke.mask])
        change = _Change(make, stroke.level)
        with self._thread_lock:
            for tile in stroke.roi.intersect(self._image).tiles(PART):
                self._put(change, tile)
        return change.bounds or Roi(stroke.roi.y, stroke.roi.x, 0, 0)

    def fill(self, region: Region, class_id: int) -> Iterator[float]:
        """Make a region a class, 0 to erase; one step to undo.

        A pixel is inside where its centre is, by even-odd. Yields the share done
        after each part; what is done when the generator is closed stays.
        """
        self._check(np.array([class_id], np.uint8))

        def make(tile: Roi) -> tuple[Mask, Labels]:
            return rasterize(region, tile), np.full(
                (tile.height, tile.width), class_id, np.uint8
            )

        return self._change(region.bounds, make)

    def fill_all(
        self, pairs: Sequence[tuple[Region, int]]
    ) -> Generator[float, None, None]:
        """Fill regions one by one, each with its class id; one step to undo each.

        Yields the share of all regions that is done.
        """
        for number, (region, class_id) in enumerate(pairs):
            for share in self.fill(region, class_id):
                yield (number + share) / len(pairs)

    def revert(self, region: Region | CorrectedRegion) -> Iterator[float]:
        """Back to the prediction, likewise; of a place only what belongs to it."""
        if not isinstance(region, CorrectedRegion):
            return self.fill(region, 0)
        parts = region.parts

        def make(tile: Roi) -> tuple[Mask, Labels]:
            mask = np.zeros((tile.height, tile.width), bool)
            for part in parts:
                mask |= rasterize(part, tile)
            return mask, np.zeros(mask.shape, np.uint8)

        return self._change(region.roi, make)

    def confirm(self, region: Region) -> Iterator[float]:
        """Make the labels shown in a region corrections, likewise."""

        def make(tile: Roi) -> tuple[Mask, Labels]:
            mask = rasterize(region, tile)
            if not mask.any():
                return mask, np.zeros(mask.shape, np.uint8)
            shown = self.store.read_labels(tile)
            mask &= (shown != 0) & (read_array(self._levels[0], tile.slices) == 0)
            return mask, shown

        return self._change(region.bounds, make)

    def import_labels(
        self, mask: MaskReader, table: Mapping[int, int]
    ) -> Iterator[float]:
        """Make a mask's pixels corrections, likewise.

        Parameters
        ----------
        mask
            Placed on this image.
        table
            Value of the mask to class id, 0 to erase; others change nothing.
        """
        self._check(np.array(list(table.values()), np.uint8))
        return self._change(mask.at, lambda tile: mask.read(tile, table), mask.side)

    def undo(self) -> Roi | None:
        """Take the last step back, of whichever session; None where there is none.

        Returns the level-0 rectangle that may look different now.
        """
        return self._turn_back("undo")

    def redo(self) -> Roi | None:
        """Do again what was taken back last; None where there is nothing."""
        return self._turn_back("redo")

    def undo_or_redo(self, direction: Direction) -> Iterator[float]:
        """Undo or redo one step part by part; yields the share done.

        For one thread; other changes wait until it has ended. Whole or not at all:
        closed before its end, it first puts back what it had changed. After a kill
        the rest is done on opening.
        """
        with self._thread_lock, self._changing():
            step = self._next(direction)
            if step is None:
                return
            entry = self._journal.append(direction, step.id)
            done = 0
            try:
                for done, part in enumerate(step.parts):
                    if done:
                        yield done / len(step.parts)
                    self._write(self._journal.read(part), direction)
            except GeneratorExit:
                other: Direction = "redo" if direction == "undo" else "undo"
                entry = self._journal.append(other, step.id)
                for part in step.parts[:done]:
                    self._write(self._journal.read(part), other)
                self._finish(entry)
                raise
            self._finish(entry)
        yield 1.0

    def next_part_count(self, direction: Direction) -> int:
        """In how many parts the next undo or redo is done; 0 where there is none."""
        with self._thread_lock:
            step = self._next(direction)
            return 0 if step is None else len(step.parts)

    def next_bounds(self, way: Direction) -> Roi | None:
        """Where the next undo or redo changes something; None where there is none."""
        with self._thread_lock:
            step = self._next(way)
            return None if step is None else step.bounds

    # -- what there is ----------------------------------------------------------

    @property
    def can_undo(self) -> bool:
        return bool(self._journal.undoable)

    @property
    def can_redo(self) -> bool:
        return bool(self._journal.redoable)

    @property
    def version(self) -> int:
        """Grows with each change."""
        return self._done

    def counts(self) -> dict[int, int]:
        """Corrected pixels per class id: exact, and without reading the arrays."""
        with self._thread_lock:
            return self._counts().counts(self.store.aliases)

    def corrected_regions(self) -> tuple[CorrectedRegion, ...]:
        """Connected corrected regions, the largest first.

        In cells of 256 pixels (of 1024 in an image of 500,000 pixels a side):
        what is nearer than a cell to each other is one place.
        """
        with self._thread_lock:
            return self._counts().regions(self.store.aliases)

    # -- how it is done ---------------------------------------------------------

    def _change(self, roi: Roi, make: Make, most: int = 0) -> Iterator[float]:
        change = _Change(make)
        tiles = list(roi.intersect(self._image).tiles(min(PART, most or PART)))
        for number, tile in enumerate(tiles, 1):
            with self._thread_lock:
                self._put(change, tile)
            yield number / len(tiles)

    def _put(self, change: "_Change", tile: Roi) -> None:
        """Journal and do one part of a change, where it changes anything."""
        with self._changing():
            mask, ids = change.make(tile)
            box = Roi.around(mask)
            if box is None:
                return
            mask, ids = mask[box.slices], ids[box.slices]
            scale = 1 << change.level
            sides = (box.y, box.x, box.height, box.width)
            roi = Roi(*(n * scale for n in sides)).shift(tile.y, tile.x)
            roi = roi.intersect(tile)
            now = read_array(self._levels[0], roi.slices)
            part = JournalPatch(
                roi, change.level, mask, np.where(mask, ids, np.uint8(0)), now
            )
            large, new = part.enlarged()
            if np.array_equal(new[large], now[large]):
                return
            part = JournalPatch(
                roi, part.level, mask, part.ids, np.where(large, now, 0)
            )
            steps = self._journal.undoable
            goes_on = bool(steps) and steps[-1].id == change.step
            if not goes_on:
                change.step = self._journal.last + 1
            entry = self._journal.append(
                "part" if goes_on else "begin", change.step, part
            )
            self._write(part, "redo")
            self._finish(entry)
            change.bounds = roi.union(change.bounds or roi)

    def _next(self, way: Direction) -> UndoStep | None:
        undo = way == "undo"
        steps = self._journal.undoable if undo else self._journal.redoable
        return steps[-1] if steps else None

    def _turn_back(self, way: Direction) -> Roi | None:
        with self._thread_lock:
            with self._changing():
                step = self._next(way)
            for _ in self.undo_or_redo(way):
                pass
            return None if step is None else step.bounds

    def _carry_out(self, entry: JournalEntry) -> None:
        """Do what a record says; doing it again changes nothing."""
        if entry.kind in ("begin", "part"):
            self._write(self._journal.read(entry), "redo")
            return
        step = self._journal.step(entry)
        for part in () if step is None else step.parts:
            self._write(self._journal.read(part), entry.kind)

    def _write(self, part: JournalPatch, way: str) -> None:
        mask, new = part.enlarged()
        gone, comes = (part.old, np.where(mask, new, 0))
        if way == "undo":
            gone, comes = comes, gone
        now = read_array(self._levels[0], part.roi.slices)
        top = write_levels(
            self._levels, part.roi, np.where(mask, comes, now), coarser_labels
        )
        self.store.refresh_coarsest(top)
        if self._counted is not None:
            self._counted.add(part.roi, gone, -1)
            self._counted.add(part.roi, comes)

    def _finish(self, entry: JournalEntry) -> None:
        self._done = entry.number
        if entry.number - self._saved < SNAPSHOT_EVERY:
            return
        # the change is done; what failed here is tried again after the next one
        with suppress(OSError):
            self._save()
            self._journal.trim()

    def _save(self) -> None:
        folder = self._folder
        assert isinstance(folder, Path)  # a URL is only read
        self._counts().save(folder / "counts.npz", self._done)
        self._saved = self._done

    # -- taking up what was left --------------------------------------------------

    def _take_up(self) -> None:
        """The counts, and what a killed process had not done yet."""
        known = CorrectionCounts.load(self._folder / "counts.npz", self.store.shape)
        self._counted: CorrectionCounts | None = None
        self._done = self._saved = 0
        if known is not None and self.writable:
            self._counted, self._done = known
            self._saved = self._done
            self._journal.last = max(self._journal.last, self._done)
        if self.writable:
            self._catch_up()
        else:
            self._done = self._journal.last

    def _catch_up(self) -> None:
        """Carry out the records that were not; in most cases none."""
        left = [e for e in self._journal.tail if e.number > self._done]
        if left and left[0].number > self._done + 1:
            self._counted = None  # counted anew: records between are not at hand
        for entry in left:
            self._carry_out(entry)
            self._done = entry.number
        # not between them: the arrays may hold what later records did already
        if left:
            self._finish(left[-1])

    def _counts(self) -> CorrectionCounts:
        """The counts; from the arrays' files once, where they are not known."""
        if self._counted is None:
            folder = self.store.path / CORRECTION / "0"
            self._counted = CorrectionCounts.from_array(self._levels[0], folder)
        return self._counted

    def _check(self, ids: Labels) -> None:
        """Raise ValueError where a class that is not 0 is not in the legend."""
        known = [0, *(c.id for c in self.store.legend)]
        unknown = set(np.flatnonzero(np.bincount(ids.ravel())).tolist()) - set(known)
        if unknown:
            raise ValueError(f"classes {sorted(unknown)} are not in the legend")

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One change, by who may, after what an earlier error left undone."""
        with self._lock.writing(), self._in_words():
            self._catch_up()
            yield

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = hasattr(self, "_done") and self._journal.last > self._done
            self._counted = None
            raise StoreError(
                f"Corrections cannot be written to {self.store.path}: "
                f"{error.strerror or error}.",
                "Free some space or check the disk. "
                + ("The change is kept, and shown with the next one or on opening."
                   if kept else "This change was not kept, all earlier ones are."),
            ) from error  # fmt: skip


@dataclass(slots=True)
class _Change:
    """One step while it is made: what becomes of a rectangle, and what it touched."""

    make: Make
    level: int = 0
    step: int = 0
    bounds: Roi | None = None
