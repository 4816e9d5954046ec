"""Records of the runs of a label store."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from napari_uhrseg.errors import OtherLabelsError, StoreError
from napari_uhrseg.io.labels.chunk_status import States
from napari_uhrseg.io.labels.disk_layout import StoreContents
from napari_uhrseg.io.labels.pending_chunks import runs_with_other_settings
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.types import Run
from napari_uhrseg.units import formatted


class RunLedger:
    """Recorded runs of a store, which are never changed.

    Parameters
    ----------
    path
        The store, for error messages.
    contents
        What the store has on disk.
    writing
        Returns the context of one change: it checks the write lock and translates
        the errors of the disk.
    read_status
        Returns the status of all chunks.
    """

    def __init__(
        self,
        path: PathOrUrl,
        contents: StoreContents,
        writing: Callable[[], AbstractContextManager[None]],
        read_status: Callable[[], States],
    ) -> None:
        self._path, self._contents = path, contents
        self._writing, self._read_status = writing, read_status

    def conflicts(self, run: Run) -> tuple[Run, ...]:
        """Return the runs with other settings whose labels a run would replace.

        Runs that an earlier start of the same run was allowed to replace are left
        out.
        """
        contents = self._contents
        same = _same_run(contents.runs, run)
        others = runs_with_other_settings(
            self._read_status(), contents.runs, run, contents.info.shape
        )
        return tuple(r for r in others if same is None or r.id > same.id)

    def find_matching_run(self, run: Run, *, any_precision: bool) -> Run | None:
        """Return the latest run that differs from ``run`` at most in the frame size.

        Parameters
        ----------
        run
            The settings to look for.
        any_precision
            If True, the run may also differ in its precision.
        """
        for earlier in reversed(self._contents.runs):
            precision = earlier.precision if any_precision else run.precision
            wanted = replace(run, window=earlier.window, precision=precision)
            if earlier.region == run.region and earlier.same_settings(wanted):
                return earlier
        return None

    def check_run(self, run: Run, *, replace: bool = False) -> tuple[Run, ...]:
        """Return the `conflicts` of a run without recording it.

        Raises StoreError as `start_run` does.
        """
        info = self._contents.info
        mine, theirs = info.fingerprint, run.image_fingerprint
        if mine and theirs and mine != theirs:
            raise StoreError(
                f"{self._path} has the labels of {info.name}, and the image to segment "
                "has other contents.",
                "Choose another output.",
            )
        others = self.conflicts(run)
        if others and not replace:
            raise _conflict_error(others, run)
        return others

    def start_run(self, run: Run, *, replace: bool = False) -> Run:
        """Record a run, or find the earlier run that it continues.

        Parameters
        ----------
        run
            The run with any id. ``class_map`` contains class ids of this store.
        replace
            If True, labels of runs with other settings may be replaced.

        Returns
        -------
        The run as recorded: an earlier one with the same settings and region,
        otherwise this one with a new id. `LabelStore.pending` returns its chunks.

        Raises
        ------
        OtherLabelsError
            If the region has labels of runs with other settings and ``replace`` is
            False.
        StoreError
            If the run is of another image.
        """
        with self._writing():
            others = self.check_run(run, replace=replace)
            same = _same_run(self._contents.runs, run)
            if same is not None and not others:
                return same
            return self._record(run)

    def _record(self, run: Run) -> Run:
        created = run.created or datetime.now(UTC).isoformat(timespec="seconds")
        runs = self._contents.runs
        run = replace(run, id=len(runs) + 1, created=created)
        self._contents.save(runs=(*runs, run))
        return run


def _same_run(records: Sequence[Run], run: Run) -> Run | None:
    """Return the latest record with the same settings and region."""
    for earlier in reversed(records):
        if earlier.region == run.region and earlier.same_settings(run):
            return earlier
    return None


def _conflict_error(others: tuple[Run, ...], run: Run) -> OtherLabelsError:
    """Return the error for a run that would replace the labels of other runs."""
    if all(
        r.window > run.window and r.same_settings(replace(run, window=r.window))
        for r in others
    ):
        return OtherLabelsError(
            "The labels here were made with frames of up to "
            f"{formatted(others[-1].window)} "
            "pixels a side; the available memory is enough for "
            f"{formatted(run.window)}.",
            "To continue them, close other programs or raise the memory budget. Or "
            "allow replacing them, or choose another output.",
        )
    if all(r.same_settings(replace(run, tissue=r.tissue)) for r in others):
        return OtherLabelsError(
            "The labels here were made with "
            + ("another tissue mask." if others[-1].tissue else "no tissue mask."),
            "Allow replacing them, or segment with the mask of the labels, or choose "
            "another output.",
        )
    names = ", ".join(
        f"{r.model} ({Path(r.checkpoint).name}, run {r.id} of {r.created[:10]})"
        for r in others
    )
    return OtherLabelsError(
        f"There are labels here that were made with other settings, by {names}.",
        "Allow replacing them, or choose another output.",
    )
