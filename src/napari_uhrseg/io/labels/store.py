"""Label store: predictions and corrections of one image, and its runs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels import chunk_status, ome_metadata
from napari_uhrseg.io.labels.chunk_status import Status
from napari_uhrseg.io.labels.disk_layout import check_exists, create_store, load_store
from napari_uhrseg.io.labels.downsample import coarser_confidence, coarser_labels
from napari_uhrseg.io.labels.legend_editor import LegendEditor
from napari_uhrseg.io.labels.pending_chunks import pending_chunks
from napari_uhrseg.io.labels.pyramid import CoarsestLevels, DisplayedLevel, write_levels
from napari_uhrseg.io.labels.run_ledger import RunLedger
from napari_uhrseg.io.labels.worker_store import WorkerResult
from napari_uhrseg.io.labels.write_lock import WriteLock, issue_write_token
from napari_uhrseg.io.paths import PathOrUrl, io_errors, to_path, write_error
from napari_uhrseg.io.zarr_chunks import write_chunks
from napari_uhrseg.types import Block, BoolMask, Labels, Legend, Limits, Roi, Run


class LabelStore:
    """Labels of one image, in a folder that is a valid OME-Zarr 0.5 image.

    The folder may be a URL of an object store; see `object_store_lock` for its lock.

    Use `create` or `open`. Reading is safe from any thread and while another process
    writes. Only the process with the write lock may write, one thread at a time.

    Memory does not grow with the image, except for the chunk status (four bytes per
    chunk) and, after their first use, the coarsest levels (at most 2048 x 2048).

    Attributes
    ----------
    path
        Folder or URL of the store.
    temporary
        True if the folder is removed on closing.
    writable
        True if this object has the write lock.
    info
        Metadata of the source image, including its path.
    name, shape, pixel_size, unit, crs, affine
        Name of the source image; height and width in pixels; height and width of a
        pixel in the unit; CRS as WKT; affine transform from pixels (x, y) to the CRS
        in the order a, b, c, d, e, f.
    legend, aliases
        All classes, including merged ones; merged class id to the id of the displayed
        class.
    legend_editor
        Editor of the classes.
    runs
        Records of all runs, numbered from 1.
    run_ledger
        Recorder of the runs.
    prediction, correction, confidence
        The levels as uint8 arrays, level 0 first. Each further level has half the
        size; the last has at most 2048 px per side.
    """

    def __init__(self, path: PathOrUrl, *, write: bool, limits: Limits) -> None:
        """Use `create` or `open`."""
        self.path = path
        self.temporary = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = WriteLock(path, ".lock", f"{path} is", limits)
        if write:
            self._lock.acquire()
        try:
            self._contents = load_store(path, write=write)
            self._take_arrays()
        except BaseException:
            self._lock.close()
            raise
        info = self.info = self._contents.info
        self.name, self.shape = info.name, info.shape
        self.pixel_size, self.unit = info.pixel_size, info.unit
        self.crs, self.affine = info.crs, info.affine
        self.aliases = self._contents.aliases
        last = self.prediction[-1], self.correction[-1]
        self._coarsest = CoarsestLevels(
            displayed=DisplayedLevel(*last, self.aliases),
            corrections=DisplayedLevel(None, last[1], self.aliases),
            confidence=self.confidence[-1],
        )
        self.run_ledger = RunLedger(
            path, self._contents, self._writing, self.chunk_status
        )
        self.legend_editor = LegendEditor(
            path, self._contents, self._writing, self._refresh_all
        )

    @property
    def writable(self) -> bool:
        return self._lock.acquired

    @property
    def legend(self) -> Legend:
        return self._contents.legend

    @property
    def runs(self) -> tuple[Run, ...]:
        return self._contents.runs

    @property
    def image_path(self) -> PathOrUrl | None:
        """The last known path of the image; None if it was not a file.

        If the file has moved, it is looked for beside the store.
        """
        return self.info.find_image(self.path)

    # -- opening and closing --------------------------------------------------

    @classmethod
    def create(
        cls,
        path: PathOrUrl | str | None,
        image: ome_metadata.ImageLike,
        legend: Legend,
        limits: Limits = Limits(),
    ) -> Self:
        """Create an empty store for an image, and open it for writing.

        Parameters
        ----------
        path
            A folder that does not exist, or its URL. It appears completely or not at
            all. None: a temporary folder that is removed on closing.
        image
            The source image; only its metadata is used.
        legend
            The first classes; more can be added.
        limits
            Size of the coarsest level, and times of the lock of an object store.

        Raises
        ------
        StoreError
            If the path exists, or cannot be written.
        """
        if path is None:
            folder = tempfile.TemporaryDirectory(
                prefix="napari-uhrseg-", ignore_cleanup_errors=True
            )
            store = cls.create(Path(folder.name) / "labels.zarr", image, legend, limits)
            store._folder, store.temporary = folder, True
            return store
        path = to_path(path).absolute()
        info = ome_metadata.StoreInfo.of(image)
        create_store(path, info, legend, limits.coarsest_level)
        return cls(path, write=True, limits=limits)

    @classmethod
    def open(
        cls, path: PathOrUrl | str, *, write: bool = False, limits: Limits = Limits()
    ) -> Self:
        """Open an existing store.

        Parameters
        ----------
        path
            Folder or URL of the store.
        write
            If True, acquire the write lock. A store of an older format version is
            then converted.
        limits
            Times of the lock of an object store.

        Raises
        ------
        StoreError
            If there is no store, it is damaged or has a newer format version, or, for
            writing, another window or process has it open for writing.
        """
        path = to_path(path).absolute()
        check_exists(path)
        return cls(path, write=write, limits=limits)

    def close(self) -> None:
        """Release the lock, and remove a temporary store. May be called twice."""
        with self._lock.thread_lock:
            self._lock.close()
            if self._folder is not None:
                self._folder.cleanup()

    def acquire(self) -> None:
        """Acquire the write lock, and load what other processes have written.

        Call `release` afterwards. Objects already returned, such as
        `displayed_levels`, stay valid. Raises StoreError as `open` does.
        """
        with self._lock.thread_lock:
            if self._lock.acquire():
                try:
                    self._reload()
                except BaseException:
                    self._lock.close()
                    raise

    def release(self) -> None:
        """Release one reference to the lock; close the store if none is left."""
        with self._lock.thread_lock:
            if self._lock.release_one():
                self.close()

    def reload_if_changed(self) -> bool:
        """Load what another process has written. Return True if there was a change.

        The check is one small read. It does nothing if this object may write.
        """
        with self._lock.thread_lock:
            if self.writable or np.array_equal(self.chunk_status(), self._status):
                return False
            self._reload()
            return True

    def _reload(self) -> None:
        self._contents.reload(self.path, write=self.writable)
        self._take_arrays()
        self._refresh_all()

    def _take_arrays(self) -> None:
        contents = self._contents
        self.prediction, self.correction = contents.prediction, contents.correction
        self.confidence = contents.confidence
        self._status = np.asarray(contents.states[:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- reading --------------------------------------------------------------

    def chunk_status(self) -> chunk_status.States:
        """Return the status of each chunk, uint32: run id << 2 | code, or 0.

        The codes are 1 done, 2 empty and 3 failed. The array is a copy. It is read
        from disk unless this object may write.
        """
        if self.writable:
            return self._status.copy()
        return np.asarray(self._contents.states[:])

    def pending(self, run: Run) -> BoolMask:
        """Return the chunks that a recorded run still has to label, (rows, columns).

        A chunk is finished if this run labelled it, or a run with the same settings
        whose region contains the whole chunk. Failed chunks are pending again, so a
        run asks once, at its start.
        """
        return pending_chunks(self.chunk_status(), self.runs, run, self.shape)

    def read_labels(self, roi: Roi, level: int = 0) -> Labels:
        """Return the displayed labels: corrections override predictions.

        Parameters
        ----------
        roi
            In level-0 pixels. It may extend beyond the image, where labels are 0.
        level
            Pyramid level; a pixel of level k covers ``2**k x 2**k`` pixels of level 0.

        Returns
        -------
        Labels
            uint8, all pixels of the level that the roi touches (level 0: its shape).
        """
        levels = self.prediction[level], self.correction[level], self.aliases
        return DisplayedLevel(*levels).read_roi(roi, level)

    def area_shares(self) -> dict[int, float]:
        """Return the share of each class in the labelled pixels of the coarsest level.

        This is an estimate. The result is empty if there are no labels.
        """
        parts = np.array_split(self.coarsest_displayed(), 16)  # counting blocks threads
        counts = np.sum([np.bincount(p.ravel(), minlength=256) for p in parts], 0)
        total = int(counts[1:].sum())
        return {c.id: float(counts[c.id] / total) for c in self.legend if total}

    def coarsest_displayed(self) -> Labels:
        """Return the coarsest displayed level, which every write updates in place."""
        return self._coarsest.get("displayed")

    def coarsest_corrections(self) -> Labels:
        """Return the coarsest level of the corrections only."""
        return self._coarsest.get("corrections")

    def coarsest_confidence(self) -> Labels:
        """Return the coarsest level of the confidence."""
        return self._coarsest.get("confidence")

    def refresh_coarsest(self, roi: Roi) -> None:
        """Read a rectangle of the coarsest levels again, in pixels of these levels."""
        self._coarsest.refresh(roi)

    def _refresh_all(self) -> None:
        self._coarsest.refresh(Roi(0, 0, *self.prediction[-1].shape))

    # -- writing --------------------------------------------------------------

    def write(self, block: Block, run_id: int, status: Status) -> None:
        """Write a block and its coarser pixels, then set the status of its chunks.

        Parameters
        ----------
        block
            Whole chunks, clipped at the image's border. It replaces existing labels;
            0 erases.
        run_id
            Id of a run from `RunLedger.start_run`.
        status
            ``"done"``, ``"empty"`` (nothing to label), ``"failed"``, or
            ``"unfinished"``: displayed, and still pending.

        Raises
        ------
        ValueError
            If the block does not consist of whole chunks, or the run is unknown.
        StoreError
            If the disk is full or cannot be written, or the store is not writable.
            The chunks are then pending.

        Notes
        -----
        Every chunk file and every status is replaced atomically, and a status is only
        set while the data is complete. A process that is killed at any moment leaves
        chunks that are either done or pending.
        """
        where = chunk_status.chunks_of(block, self.shape)
        if not 1 <= run_id <= len(self.runs):
            raise ValueError(f"run {run_id} is not recorded in {self.path}")
        with self._writing():
            if self._status[where].any():
                self._set_status(where, 0)
            top = self._write_levels(0, block.roi, block.labels, block.confidence)
            self._coarsest.refresh(top)
            self._set_status(where, chunk_status.encode(run_id, status))

    def issue_write_token(self) -> str:
        """Return a token with which workers may write chunks; see `worker_store`.

        It is valid until the next token, or until another process opens the store for
        writing.
        """
        with self._writing():
            return issue_write_token(self.path)

    def clear_status(self, roi: Roi) -> None:
        """Make the chunks of a block pending before a worker writes them."""
        where = chunk_status.chunks_at(roi, self.shape)
        with self._writing():
            if self._status[where].any():
                self._set_status(where, 0)

    def commit(self, result: WorkerResult, run_id: int) -> None:
        """Complete a block that a worker has written; see `worker_store`.

        This writes the levels that the worker did not write, then sets the status of
        the chunks. Raises StoreError as `write` does.
        """
        where = chunk_status.chunks_at(result.roi, self.shape)
        level, last = result.level, len(self.prediction) - 1
        with self._writing():
            if level <= last:
                roi = result.roi.at_scale(2**level)
                self._write_levels(level, roi, result.labels, result.confidence)
            self._coarsest.refresh(result.roi.at_scale(2**last))
            self._set_status(where, chunk_status.encode(run_id, result.status))

    def _write_levels(
        self, level: int, roi: Roi, labels: Labels, confidence: Labels
    ) -> Roi:
        write_levels(self.confidence[level:], roi, confidence, coarser_confidence)
        return write_levels(self.prediction[level:], roi, labels, coarser_labels)

    def _set_status(self, where: tuple[slice, slice], state: int) -> None:
        states = np.full_like(self._status[where], state)
        write_chunks(self._contents.states, where, states)
        self._status[where] = state

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Serialise writes, check the write lock and translate the disk's errors."""
        with self._lock.writing():
            try:
                yield
            except StoreError:
                raise
            except io_errors(self.path) as error:
                raise write_error(f"{self.path} cannot be written", error) from error
