"""User corrections of a label store: strokes, fills, undo and redo."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Self

import numpy as np

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.corrections.annotations.locks import MakeTile, TileChange
from napari_uhrseg.io.corrections.annotations.regions_file import read_regions
from napari_uhrseg.io.corrections.journal_record import JournalPatch
from napari_uhrseg.io.corrections.mask_import import TileReader
from napari_uhrseg.io.corrections.rasterize import rasterize
from napari_uhrseg.io.corrections.replay import JournalReplay
from napari_uhrseg.io.corrections.undo import Direction, next_step, undo_or_redo
from napari_uhrseg.io.labels.pyramid import apply_aliases
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.labels.write_lock import WriteLock
from napari_uhrseg.io.paths import is_url
from napari_uhrseg.types import (
    BoolMask,
    CorrectedRegion,
    Labels,
    Limits,
    Region,
    Roi,
    Stroke,
)


class Corrections:
    """Corrections of a store, which one process at a time may change.

    They have a write lock of their own, so a run may write predictions at the same
    time. A change is on disk, completely or not at all, before its call returns, and
    then displayed at every level. Changes from several threads are serialised.

    A change is written in tiles of at most 2048 x 2048 pixels, so memory (some 100
    MB) does not grow with it. A stroke is on disk completely or not at all; a kill
    during a longer change keeps its finished tiles. The journal keeps the last 64 MB
    of changes, and the last change whatever its size; older changes cannot be undone.
    A killed process loses nothing. A power failure may lose array data that the
    operating system had not written yet.

    Attributes
    ----------
    store
        The label store. It may be open for reading only.
    writable
        True if this object has the write lock.
    """

    def __init__(self, store: LabelStore, *, write: bool, limits: Limits) -> None:
        """Use `open`."""
        if write and is_url(store.path):
            raise StoreError(
                f"Corrections cannot be written to {store.path}: their journal needs "
                "files, which an object store does not have.",
                "Copy the store to a folder, and correct it there.",
            )
        self.store = store
        self._image = Roi(0, 0, *store.shape)
        self._tile = limits.correction_tile
        self.set_locked([r.region for r in read_regions(store.path) if r.locked])
        self._lock = WriteLock(
            store.path, ".corrections.lock", f"Corrections of {store.path} are", limits
        )
        if write:
            self._lock.acquire()
        self._replay = JournalReplay(store, limits)
        try:
            self._replay.load(write=write)
        except BaseException:
            self._lock.close()
            raise

    @property
    def writable(self) -> bool:
        return self._lock.acquired

    @classmethod
    def open(
        cls, store: LabelStore, *, write: bool = True, limits: Limits = Limits()
    ) -> Self:
        """Open the corrections of a store.

        Parameters
        ----------
        store
            The label store, open for reading or writing.
        write
            If True, acquire the write lock of the corrections.
        limits
            Sizes of tiles and of the journal.

        Raises
        ------
        StoreError
            If another window or process corrects in the store, or its folder cannot
            be written.
        """
        return cls(store, write=write, limits=limits)

    def close(self) -> None:
        """Release the lock after the current change. May be called twice."""
        # counts that cannot be saved are derived from the journal at the next opening
        with self._lock.thread_lock, closing(self._lock), suppress(OSError):
            if self.writable and not self._replay.unfinished:
                self._replay.save_counts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def set_locked(self, regions: Sequence[Region]) -> None:
        """Set the regions in which no pixel changes, except by undo and redo."""
        self._locked = tuple(regions)

    # -- changing -------------------------------------------------------------

    def apply(self, stroke: Stroke) -> Roi:
        """Write a stroke to disk, at all levels.

        Returns
        -------
        Roi
            Level-0 rectangle that may have changed. Its area is 0 if nothing changed;
            there is then no step to undo.

        Raises
        ------
        ValueError
            If a class is not in the legend.
        StoreError
            If the disk is full or cannot be written. The stroke is then not recorded.
        """
        step = 1 << stroke.level

        def make(tile: Roi) -> tuple[BoolMask, Labels]:
            y, x = (tile.y - stroke.roi.y) // step, (tile.x - stroke.roi.x) // step
            key = (
                slice(y, y + -(-tile.height // step)),
                slice(x, x + -(-tile.width // step)),
            )
            return stroke.mask[key], stroke.ids[key]

        self._check_classes(stroke.ids[stroke.mask])
        change = TileChange(make, self._locked, stroke.level)
        tiles = stroke.roi.intersect(self._image).tiles(self._tile)
        with self._writing():
            patches = (self._make_patch(change, tile) for tile in tiles)
            bounds = self._replay.append_step(p for p in patches if p is not None)
        return bounds or Roi(stroke.roi.y, stroke.roi.x, 0, 0)

    def fill(self, region: Region, class_id: int) -> Iterator[float]:
        """Set a region to a class, or to 0 to erase, as one undo step.

        Pixels are inside if their centre is, by the even-odd rule. Yields the
        completed share after each tile. Closing the generator keeps finished tiles.
        """
        self._check_classes(np.array([class_id], np.uint8))

        def make(tile: Roi) -> tuple[BoolMask, Labels]:
            return rasterize(region, tile), np.full(
                (tile.height, tile.width), class_id, np.uint8
            )

        return self._write_tiles(self._tiles(region.bounds), make)

    def fill_all(
        self, pairs: Sequence[tuple[Region, int]]
    ) -> Generator[float, None, None]:
        """Fill several regions, each with its class id and as its own undo step.

        Yields the completed share of all regions.
        """
        for number, (region, class_id) in enumerate(pairs):
            for share in self.fill(region, class_id):
                yield (number + share) / len(pairs)

    def revert(self, region: Region | CorrectedRegion) -> Iterator[float]:
        """Remove the corrections of a region, as one undo step.

        Of a corrected region only its own parts are reverted. Yields the completed
        share after each tile.
        """
        if not isinstance(region, CorrectedRegion):
            return self.fill(region, 0)
        parts = region.parts

        def make(tile: Roi) -> tuple[BoolMask, Labels]:
            mask = np.zeros((tile.height, tile.width), bool)
            for part in parts:
                inside = part.intersect(tile)
                mask[inside.shift(-tile.y, -tile.x).slices] |= inside.area > 0
            return mask, np.zeros(mask.shape, np.uint8)

        return self._write_tiles(self._tiles(region.roi), make)

    def confirm(self, region: Region) -> Iterator[float]:
        """Save the displayed labels of a region as corrections, as one undo step.

        Yields the completed share after each tile.
        """

        def make(tile: Roi) -> tuple[BoolMask, Labels]:
            mask = rasterize(region, tile)
            if not mask.any():
                return mask, np.zeros(mask.shape, np.uint8)
            labels = self.store.read_labels(tile)
            mask &= (labels != 0) & (self._replay.read(tile) == 0)
            return mask, labels

        return self._write_tiles(self._tiles(region.bounds), make)

    def import_labels(
        self, mask: TileReader, table: Mapping[int, int]
    ) -> Iterator[float]:
        """Save the pixels of a mask as corrections, as one undo step.

        Yields the completed share after each tile.

        Parameters
        ----------
        mask
            The mask, registered to the store's image.
        table
            Value of the mask to class id, 0 to erase. Other values change nothing.
        """
        self._check_classes(np.array(list(table.values()), np.uint8))
        tiles = self._tiles(mask.at, min(self._tile, mask.side))
        return self._write_tiles(tiles, lambda tile: mask.read(tile, table))

    def relabel(self, table: Mapping[int, int]) -> Iterator[float]:
        """Change corrections of some classes to other classes, as one undo step.

        Locked regions change too, because classes are changed as a whole. Yields the
        completed share. Only chunks with corrections are read.

        Parameters
        ----------
        table
            Class id to its new id, 0 to erase.
        """

        def make(tile: Roi) -> tuple[BoolMask, Labels]:
            labels = self._replay.read(tile)
            changed = apply_aliases(labels, table)
            return labels != changed, changed

        tiles = self._replay.corrected_tiles(self._tile)
        return self._write_tiles(tiles, make, locks=False)

    def undo(self) -> Roi | None:
        """Undo the last step, including those of earlier sessions.

        Returns
        -------
        Roi or None
            Level-0 rectangle that may have changed; None if there is no step.
        """
        return self._undo_or_redo("undo")

    def redo(self) -> Roi | None:
        """Redo the step that was undone last, and return as `undo` does."""
        return self._undo_or_redo("redo")

    def undo_or_redo(self, direction: Direction) -> Iterator[float]:
        """Undo or redo one step tile by tile, completely or not at all.

        Yields the completed share. Use the generator in one thread; other changes
        wait until it ends. Closing it early restores what it had changed. After a
        kill, the rest is executed at the next opening.
        """
        with self._lock.thread_lock, self._writing():
            step = next_step(self._replay.journal, direction)
            if step is None:
                return
            yield from undo_or_redo(self._replay, direction, step)
        yield 1.0

    def next_part_count(self, direction: Direction) -> int:
        """Return the number of tiles of the next undo or redo; 0 if there is none."""
        with self._lock.thread_lock:
            step = next_step(self._replay.journal, direction)
            return 0 if step is None else len(step.parts)

    def next_bounds(self, direction: Direction) -> Roi | None:
        """Return the rectangle of the next undo or redo; None if there is none."""
        with self._lock.thread_lock:
            step = next_step(self._replay.journal, direction)
            return None if step is None else step.bounds

    # -- reading ----------------------------------------------------------------

    @property
    def loss(self) -> str:
        """Sentence about changes that cannot be undone any more; empty without one."""
        return self._replay.loss

    @property
    def can_undo(self) -> bool:
        """True if there is a step to undo."""
        return bool(self._replay.journal.undoable)

    @property
    def can_redo(self) -> bool:
        """True if there is a step to redo."""
        return bool(self._replay.journal.redoable)

    @property
    def version(self) -> int:
        """Number that grows with each change."""
        return self._replay.done

    def counts(self) -> dict[int, int]:
        """Return the exact number of corrected pixels by displayed class id."""
        with self._lock.thread_lock:
            return self._replay.counts().by_class(self.store.aliases)

    def corrected_regions(self) -> tuple[CorrectedRegion, ...]:
        """Return the corrected regions, the largest first.

        Corrections that are at most 32 pixels apart belong to one region, rounded up
        to pixels of level 3 (of a coarser level in regions wider than 16,000 pixels).
        """
        with self._lock.thread_lock:
            return self._replay.regions()

    # -- implementation ---------------------------------------------------------

    def _tiles(self, roi: Roi, side: int | None = None) -> list[Roi]:
        return list(roi.intersect(self._image).tiles(side or self._tile))

    def _write_tiles(
        self, tiles: Sequence[Roi], make: MakeTile, *, locks: bool = True
    ) -> Iterator[float]:
        change = TileChange(make, self._locked if locks else ())
        for number, tile in enumerate(tiles, 1):
            with self._lock.thread_lock:
                self._write_tile(change, tile)
            yield number / len(tiles)

    def _write_tile(self, change: TileChange, tile: Roi) -> None:
        """Journal and write one tile of a change if it changes anything."""
        with self._writing():
            patch = self._make_patch(change, tile)
            if patch is None:
                return
            change.step = self._replay.append(change.step, patch)
            change.bounds = patch.roi.union(change.bounds or patch.roi)

    def _make_patch(self, change: TileChange, tile: Roi) -> JournalPatch | None:
        """Return the changed part of a tile; None if it stays as it is."""
        mask, ids = change.tile(tile)
        box = Roi.around(mask)
        if box is None:
            return None
        mask, ids = mask[box.slices], ids[box.slices]
        scale = 1 << change.level
        sides = (box.y, box.x, box.height, box.width)
        roi = Roi(*(n * scale for n in sides)).shift(tile.y, tile.x).intersect(tile)
        present = self._replay.read(roi)
        ids = np.where(mask, ids, np.uint8(0))
        patch = JournalPatch(roi, change.level, mask, ids, present)
        large, new = patch.enlarged()
        if np.array_equal(new[large], present[large]):
            return None
        return JournalPatch(roi, patch.level, mask, ids, np.where(large, present, 0))

    def _undo_or_redo(self, direction: Direction) -> Roi | None:
        with self._lock.thread_lock:
            with self._writing():
                step = next_step(self._replay.journal, direction)
            for _ in self.undo_or_redo(direction):
                pass
            return None if step is None else step.bounds

    def _check_classes(self, ids: Labels) -> None:
        """Raise ValueError if a class other than 0 is not in the legend."""
        known = [0, *(c.id for c in self.store.legend)]
        unknown = set(np.flatnonzero(np.bincount(ids.ravel())).tolist()) - set(known)
        if unknown:
            raise ValueError(f"classes {sorted(unknown)} are not in the legend")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Check the lock, complete what an earlier error left, translate errors."""
        with self._lock.writing():
            with self._replay.translated_errors():
                self._replay.catch_up()
            with self._replay.translated_errors():
                yield
