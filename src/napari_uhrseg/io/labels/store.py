"""The label store: what was predicted, what was corrected, and which run did what."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import numpy as np
import zarr

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels import chunk_status, ome_metadata
from napari_uhrseg.io.labels.chunk_status import STORE_CHUNK, Status
from napari_uhrseg.io.labels.disk_layout import check_there, create_tree, load_tree
from napari_uhrseg.io.labels.downsample import coarser_confidence, coarser_labels
from napari_uhrseg.io.labels.pyramid import (
    CoarsestLevels,
    DisplayedLevel,
    write_levels,
)
from napari_uhrseg.io.labels.worker_store import WorkerResult
from napari_uhrseg.io.labels.write_lock import WriteLock, issue_write_token
from napari_uhrseg.io.paths import Address, error_text, io_errors, is_url, to_path
from napari_uhrseg.types import Block, Labels, Legend, Mask, Roi, Run

__all__ = ["STORE_CHUNK", "DisplayedLevel", "LabelStore", "confidence_levels",
           "correction_levels", "displayed_levels"]  # fmt: skip


class LabelStore:
    """The labels of one image, in a folder that is a valid OME-Zarr 0.5 image.

    The folder may be a URL of an object store; see `io.lease` for its lock.

    Made by `create` or `open`. Reading is safe from any thread and while another
    process writes. Writing is for the one process that holds the lock, from one
    thread at a time (held by a lock as well).

    Memory does not grow with the image but for the chunk states (four bytes per
    1024 x 1024 pixels) and, once asked for, the coarsest level (at most 2048 x
    2048) of the shown labels and of the confidence.

    Attributes
    ----------
    path
        The store's folder, or its URL.
    temporary
        Whether the folder is removed on closing.
    writable
        Whether this object holds the lock.
    info
        What is known of the image it belongs to, its path among it.
    name, shape, pixel_size, unit, crs, affine
        Of the image: height and width in pixels, and of a pixel in the unit; the
        CRS as WKT; from pixels (x, y) to the CRS in the order a, b, c, d, e, f.
    legend, runs
        The classes, merged ones too, and the records of all runs, ids from 1.
    aliases
        Id of a merged class to that of the class it is shown as.
    prediction, correction, confidence
        The levels as uint8 zarr arrays, level 0 first; each further one is half
        the size, the last at most 2048 pixels a side.
    """

    def __init__(self, path: Address, *, write: bool) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.temporary = False
        self._lock = WriteLock(path, ".lock", f"{path} is", write=write)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.aliases: dict[int, int] = {}
        try:
            self._load()
        except BaseException:
            self._lock.close()
            raise
        info = self.info = self._tree.info
        self.name, self.shape = info.name, info.shape
        self.pixel_size, self.unit = info.pixel_size, info.unit
        self.crs, self.affine = info.crs, info.affine
        last = self.prediction[-1], self.correction[-1]
        self._coarsest = CoarsestLevels(
            shown=DisplayedLevel(*last, self.aliases),
            corrected=DisplayedLevel(None, last[1], self.aliases),
            confidence=self.confidence[-1],
        )

    @property
    def writable(self) -> bool:
        return self._lock.acquired

    @property
    def image_path(self) -> Address | None:
        """Where the image is, or was last known to be; ``None`` if it was no file.

        A file that is no longer where it was is looked for beside the store.
        """
        if not self.info.path:
            return None
        was = to_path(self.info.path)
        if is_url(was) or is_url(self.path):
            return was
        beside = (self.path.parent / was, self.path.parent / was.name)
        return next((p for p in (was, *beside) if p.exists()), was)

    def _load(self) -> None:
        """What the disk says now; levels that were handed out stay good."""
        tree = self._tree = load_tree(self.path, write=self.writable)
        self.legend, self.runs = tree.legend, tree.runs
        self.confidence, self.prediction = tree.confidence, tree.prediction
        self.correction = tree.correction
        self.aliases.clear()
        self.aliases.update(tree.aliases)
        self._state = np.asarray(tree.states[:])

    # -- opening and closing --------------------------------------------------

    @classmethod
    def create(
        cls, path: Address | str | None, image: ome_metadata.ImageLike, legend: Legend
    ) -> Self:
        """An empty store for an image, open for writing.

        Parameters
        ----------
        path
            A folder that does not exist yet, or its URL; it appears whole or not
            at all. ``None``: a temporary one, removed on closing.
        image
            What is asked of it: shape, name, path, fingerprint, pixel_size,
            unit, crs, affine.
        legend
            The first classes; more can be added.

        Raises
        ------
        StoreError
            Where there is something at the path, or it cannot be written.
        """
        if path is None:
            folder = tempfile.TemporaryDirectory(
                prefix="napari-uhrseg-", ignore_cleanup_errors=True
            )
            store = cls.create(Path(folder.name) / "labels.zarr", image, legend)
            store._folder, store.temporary = folder, True
            return store
        path = to_path(path).absolute()
        create_tree(path, ome_metadata.StoreInfo.of(image), legend)
        return cls(path, write=True)

    @classmethod
    def open(cls, path: Address | str, *, write: bool = False) -> Self:
        """A store that is on disk.

        Raises
        ------
        StoreError
            Where there is none, it is damaged or from a newer version, or, for
            writing, another window or process has it open for writing.
        """
        path = to_path(path).absolute()
        check_there(path)
        return cls(path, write=write)

    def close(self) -> None:
        """Release the lock; a temporary store is removed. May be called twice."""
        with self._lock.thread_lock:
            self._lock.close()
            if self._folder is not None:
                self._folder.cleanup()

    def acquire(self) -> None:
        """Hold the lock, and take over what others wrote since it was last held.

        What was handed out, `displayed_levels` among it, shows the store as
        before. To be followed by `release`. Raises as `open` does.
        """
        with self._lock.thread_lock:
            if self._lock.acquire():
                try:
                    self._take_over()
                except BaseException:
                    self._lock.close()
                    raise

    def release(self) -> None:
        """No longer need the lock; it is free when none in this process does."""
        with self._lock.thread_lock:
            if self._lock.release_one():
                self.close()

    def reload_if_changed(self) -> bool:
        """Take over what another process wrote; whether there was anything.

        Costs one small read where there was nothing. Nothing where this object
        writes. Raises StoreError.
        """
        with self._lock.thread_lock:
            if self.writable or np.array_equal(self.chunk_status(), self._state):
                return False
            self._take_over()
            return True

    def _take_over(self) -> None:
        self._load()
        self._coarsest.refresh(Roi(0, 0, *self.prediction[-1].shape))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- reading --------------------------------------------------------------

    def chunk_status(self) -> chunk_status.States:
        """Per chunk, uint32: the last run's id << 2 | code; 0 where none was.

        Codes: 1 done, 2 empty, 3 failed. A copy; read from disk anew where
        this object does not write.
        """
        return self._state.copy() if self.writable else np.asarray(self._tree.states[:])

    def read_labels(self, roi: Roi, level: int = 0) -> Labels:
        """The labels as shown: corrections over predictions.

        Parameters
        ----------
        roi
            In level-0 pixels; may reach outside the image, where labels are 0.
        level
            Of the pyramid; a pixel of level k covers 2**k by 2**k of level 0.

        Returns
        -------
        uint8, all pixels of that level which the roi touches: of the roi's own
        shape at level 0.
        """
        levels = self.prediction[level], self.correction[level], self.aliases
        return DisplayedLevel(*levels).touched(roi, level)

    def area_shares(self) -> dict[int, float]:
        """Each class's share of the labelled pixels, from the coarsest level.

        An estimate: what is smaller than a pixel of that level hardly counts.
        Empty while nothing is labelled.
        """
        # in parts: a count holds Python's lock, and a window beside it, until done
        parts = np.array_split(self.coarsest_displayed(), 16)
        counts = np.sum([np.bincount(p.ravel(), minlength=256) for p in parts], 0)
        total = int(counts[1:].sum())
        if not total:
            return {}
        return {c.id: float(counts[c.id] / total) for c in self.legend}

    def coarsest_displayed(self) -> Labels:
        """The coarsest shown level, kept in step in place by every write.

        Read at the first call; so are the other two.
        """
        return self._coarsest.get("shown")

    def coarsest_corrections(self) -> Labels:
        """The coarsest level of the corrections alone."""
        return self._coarsest.get("corrected")

    def coarsest_confidence(self) -> Labels:
        """The coarsest level of confidence."""
        return self._coarsest.get("confidence")

    def refresh_coarsest(self, roi: Roi) -> None:
        """Read part of the coarsest levels again, ``roi`` in their own pixels."""
        self._coarsest.refresh(roi)

    # -- classes and runs -----------------------------------------------------

    def add_classes(self, legend: Legend) -> Legend:
        """Add the classes whose names are new here; returns the whole legend.

        Raises StoreError beyond 255 classes, or where the store is not writable.
        """
        return self._change_legend(lambda: self.legend.merged(legend))

    def rename_class(self, class_id: int, name: str) -> Legend:
        """Give a class another name; a network's class of its old name is still it.

        Raises StoreError where another class has the name, there is no such class,
        or the store is not writable.
        """
        return self._change_legend(lambda: self.legend.renamed(class_id, name))

    def recolor_class(self, class_id: int, color: str) -> Legend:
        """Give a class another colour, #rrggbb. Raises likewise."""
        return self._change_legend(lambda: self.legend.recolored(class_id, color))

    def merge_class(self, class_id: int, into: int) -> Legend:
        """Show a class as another from now on, whatever was or will be written.

        The arrays keep the id, and so does the legend, for the runs that name it;
        `aliases` says what it is shown as. Into itself: shown as itself again.
        Raises ValueError where one is unknown, or the other is shown as this one.
        """
        with self._changing():
            aliases = {k: v for k, v in self.aliases.items() if k != class_id}
            if class_id != into:
                into = aliases.get(into, into)
                aliases = {k: into if v == class_id else v for k, v in aliases.items()}
                aliases[class_id] = into
            if aliases.get(into) or not {class_id, into} <= {c.id for c in self.legend}:
                raise ValueError(f"class {class_id} cannot be merged into {into}")
            self._save_classes(self.legend, aliases)
            self.refresh_coarsest(Roi(0, 0, *self.prediction[-1].shape))
            return self.legend

    def _change_legend(self, change: Callable[[], Legend]) -> Legend:
        with self._changing():
            try:
                legend = change()
            except ValueError as error:
                raise StoreError(
                    f"The classes of {self.path} stay as they were: {error}.",
                    "Choose another name or colour, or segment into a new store.",
                ) from error
            if legend != self.legend:
                self._save_classes(legend, self.aliases)
            return legend

    def _save_classes(self, legend: Legend, aliases: dict[int, int]) -> None:
        self._tree.save(legend, self.runs, aliases)
        self.legend = legend
        self.aliases.update(aliases)  # in place: the shown levels look at it
        for class_id in self.aliases.keys() - aliases.keys():
            del self.aliases[class_id]
        self._tree.save_legend(legend, aliases)

    def conflicts(self, run: Run) -> tuple[Run, ...]:
        """Runs with other settings whose labels this run would replace.

        Those do not count that this very run had leave to replace when it began.
        """
        known = chunk_status.find_same_run(self.runs, run)
        others = chunk_status.runs_with_other_settings(
            self.chunk_status(), self.runs, run, self.shape
        )
        return tuple(r for r in others if known is None or r.id > known.id)

    def find_matching_run(self, run: Run, *, any_precision: bool) -> Run | None:
        """The latest run here that differs from this one in its frames' side at most.

        ``any_precision``: or in its precision.
        """
        return chunk_status.find_matching_run(self.runs, run, any_precision)

    def start_run(self, run: Run, *, replace: bool = False) -> Run:
        """Record a run, or find the earlier one that it continues.

        Parameters
        ----------
        run
            With any id; ``class_map`` in class ids of this store.
        replace
            Whether labels made with other settings may be replaced.

        Returns
        -------
        The run as recorded: an earlier one with the same settings and region,
        else this one with a new id. What is left to do is `pending_chunks`.

        Raises
        ------
        StoreError
            Where labels made with other settings lie in the run's region and
            ``replace`` is not set, or the run is of another image.
        """
        with self._changing():
            others = self.check_run(run, replace=replace)
            known = chunk_status.find_same_run(self.runs, run)
            if known is not None and not others:
                return known
            return self._record(run)

    def pending(self, run: Run) -> Mask:
        """The chunks that a recorded run still has to do: (chunk rows, columns).

        Done are chunks labelled by this run, or by one of the same settings
        whose region holds all of the chunk. Failed ones are pending again, so a
        single pass asks once, at its start.
        """
        return chunk_status.pending_chunks(
            self.chunk_status(), self.runs, run, self.shape
        )

    def _record(self, run: Run) -> Run:
        created = run.created or datetime.now(UTC).isoformat(timespec="seconds")
        run = replace(run, id=len(self.runs) + 1, created=created)
        self.runs += (run,)
        self._tree.save(self.legend, self.runs, self.aliases)
        return run

    def check_run(self, run: Run, *, replace: bool = False) -> tuple[Run, ...]:
        """The `conflicts` of a run; raises as `start_run` does, changing nothing."""
        mine, theirs = self._tree.info.fingerprint, run.image_fingerprint
        if mine and theirs and mine != theirs:
            raise StoreError(
                f"{self.path} holds the labels of {self._tree.info.name}, and the "
                "image to segment has other contents.",
                "Choose another output.",
            )
        others = self.conflicts(run)
        if others and not replace:
            raise chunk_status.conflict_error(others, run)
        return others

    # -- writing --------------------------------------------------------------

    def write(self, block: Block, run_id: int, status: Status) -> None:
        """Put a block and its coarser pixels on disk, then mark its chunks.

        Parameters
        ----------
        block
            Of whole chunks, clipped at the image's border. It replaces what is
            there; 0 erases.
        run_id
            Of a run from `start_run`.
        status
            ``"done"``, ``"empty"`` (nothing to label), ``"failed"``, or
            ``"unfinished"``: shown, and still pending.

        Raises
        ------
        ValueError
            The block is not made of whole chunks, or the run is unknown.
        StoreError
            The disk is full or cannot be written, or the store is not writable.
            The chunks are then pending.

        Notes
        -----
        Every chunk file and every state is replaced whole, and a state is only
        there while the data is right: a process killed at any moment leaves
        chunks that are done, or pending.
        """
        where = chunk_status.chunks_of(block, self.shape)
        if not 1 <= run_id <= len(self.runs):
            raise ValueError(f"run {run_id} is not recorded in {self.path}")
        with self._changing():
            if self._state[where].any():
                self._mark(where, 0)
            write_levels(self.confidence, block.roi, block.confidence,
                          coarser_confidence)  # fmt: skip
            top = write_levels(self.prediction, block.roi, block.labels, coarser_labels)
            self._coarsest.refresh(top)
            self._mark(where, chunk_status.encode(run_id, status))

    def issue_write_token(self) -> str:
        """A token with which other processes may write chunks; see `io.owned`.

        It ends with the next one, with `revoke_write_token`, or with the next writer.
        """
        with self._changing():
            return issue_write_token(self.path)

    def clear_status(self, roi: Roi) -> None:
        """Make a block's chunks pending, before another process writes them."""
        where = chunk_status.chunks_at(roi, self.shape)
        with self._changing():
            if self._state[where].any():
                self._mark(where, 0)

    def commit(self, part: WorkerResult, run_id: int) -> None:
        """Take over a claimed block that its owner has written; see `io.owned`.

        The levels the owner left are brought in step, then the chunks are marked.
        Raises as `write` does.
        """
        where = chunk_status.chunks_at(part.roi, self.shape)
        roi, last = part.roi.at_scale(2**part.level), len(self.prediction) - 1
        with self._changing():
            if part.level <= last:
                write_levels(self.confidence[part.level :], roi, part.confidence,
                             coarser_confidence)  # fmt: skip
                write_levels(self.prediction[part.level :], roi, part.labels,
                             coarser_labels)  # fmt: skip
            self._coarsest.refresh(part.roi.at_scale(2**last))
            self._mark(where, chunk_status.encode(run_id, part.status))

    def _mark(self, where: tuple[slice, slice], state: int) -> None:
        self._tree.states[where] = np.uint32(state)
        self._state[where] = state

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time, by who may, with the disk's errors in words."""
        with self._lock.writing():
            try:
                yield
            except StoreError:
                raise
            except io_errors(self.path) as error:
                raise StoreError(
                    f"{self.path} cannot be written: {error_text(error)}.",
                    "Free some space or check the disk, then segment again: what is "
                    "done stays.",
                ) from error


def displayed_levels(store: LabelStore) -> list[DisplayedLevel | Labels]:
    """The shown labels for a napari layer, level 0 first.

    All but the coarsest read the disk when they are indexed. The coarsest is a
    numpy array updated in place by all who write, since napari never reads that
    level again.
    """
    finer = zip(store.prediction[:-1], store.correction[:-1], strict=True)
    levels = [DisplayedLevel(p, c, store.aliases) for p, c in finer]
    return [*levels, store.coarsest_displayed()]


def correction_levels(store: LabelStore) -> list[DisplayedLevel | Labels]:
    """The corrections alone for a napari layer, likewise."""
    levels = [DisplayedLevel(None, c, store.aliases) for c in store.correction[:-1]]
    return [*levels, store.coarsest_corrections()]


def confidence_levels(store: LabelStore) -> list[zarr.Array | Labels]:
    """The confidence for a napari layer, likewise."""
    return [*store.confidence[:-1], store.coarsest_confidence()]
