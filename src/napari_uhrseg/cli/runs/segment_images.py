"""Segmentation of several images into their stores, one after the other."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from rich.text import Text

from napari_uhrseg.cli.console import (
    err,
    json_line,
    out,
    plan_record,
    run_events,
    swatch,
    warn,
)
from napari_uhrseg.cli.runs.batch import Failure, Report, check_image, open_store
from napari_uhrseg.errors import ClusterError, UhrSegError
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.types import Legend, SegmentSettings, TissueMask
from napari_uhrseg.units import format_seconds, left_out_text

if TYPE_CHECKING:
    from napari_uhrseg.cli.runs.backends import Backend
    from napari_uhrseg.engine.events import SegmentEvent
    from napari_uhrseg.engine.inference.overall_progress import OverallProgress
    from napari_uhrseg.engine.planning.plan import Plan
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore

Watch = Callable[[Iterator[Any]], Iterator[Any]]


class RunChoices(Protocol):
    """Options of a command that concern all its runs."""

    @property
    def replace(self) -> bool:
        """Replace labels that were computed with other settings."""

    @property
    def dry_run(self) -> bool:
        """Print the plans and stop."""

    @property
    def json(self) -> bool:
        """Print JSON."""


@dataclass(frozen=True, slots=True)
class ImageRuns:
    """Images of one command, segmented one after the other.

    Parameters
    ----------
    backend
        Checkpoint and settings of inference.
    settings
        Function that returns the settings of a run of an image.
    run
        Replacement of labels, dry run and output.
    watch
        Function that passes events through and raises interrupts.
    report
        Report to which the result of each image is added.
    many
        True if an image that fails does not stop the command.
    legend
        Classes of a new store; None: those of the checkpoint.
    opened
        Called with the image and its store before the run.
    finished
        Called with the image after its run; True if the run has written labels.
    overall
        Progress of all images as one; None: each image has its own progress.
    tissue
        Function that returns the tissue mask of the run of an image, given the path
        of its labels; None: no mask.
    """

    backend: "Backend"
    settings: "Callable[[Image], SegmentSettings]"
    run: RunChoices
    watch: Watch
    report: Report
    many: bool = False
    legend: Legend | None = None
    opened: "Callable[[PathOrUrl, LabelStore], object]" = lambda _path, _store: None
    finished: Callable[[PathOrUrl, bool], object] = lambda _path, _changed: None
    overall: "OverallProgress | None" = None
    tissue: "Callable[[Image, PathOrUrl], TissueMask | None]" = lambda _image, _path: (
        None
    )

    def segment(self, stores: dict[PathOrUrl, PathOrUrl]) -> None:
        """Segment each image into its store; note failures if there are many."""
        for number, (path, store) in enumerate(stores.items()):
            if self.many and not self.run.json:
                out.print(Text(f"[{number + 1}/{len(stores)}] {path}"), soft_wrap=True)
            try:
                self._one(number, path, store)
            except UhrSegError as error:
                if not self.many:
                    raise
                if not self.run.json:
                    warn(str(error))
                self.report.failed.append(Failure(path, error.message, error.hint))
                if isinstance(error, ClusterError):
                    break  # the other images would fail too
            finally:
                self.report.untried.remove(path)

    def _one(self, number: int, path: PathOrUrl, output: PathOrUrl) -> None:
        check_image(path)
        if self.run.dry_run:
            self._print_plan(path, output)
            return
        from napari_uhrseg.engine.events import Finished
        from napari_uhrseg.io.open import open_image

        image = open_image(path)
        legend = self.backend.legend if self.legend is None else self.legend
        with open_store(output, image, legend) as store:
            self.opened(path, store)
            last = self._run(number, path, image, store)
            if not self.run.json:
                _show_shares(store)
                out.print(f"Labels: {output}", highlight=False, soft_wrap=True)
        assert isinstance(last, Finished)  # the last event of a run
        self.finished(path, last.done > 0)
        self._note(path, last.done, last.failed)

    def _run(
        self, number: int, path: PathOrUrl, image: "Image", store: "LabelStore"
    ) -> "SegmentEvent":
        settings = self._settings(image, store.path)
        with closing(
            self.backend.events(image, store, settings, self.run.replace)  # type: ignore[type-var] # a generator, annotated as an iterator
        ) as events:
            shown = self.watch(events)
            if self.overall is not None:
                shown = self.overall.of(number, shown)
            last: SegmentEvent = run_events(
                shown, "Segmenting", _show, json=self.run.json, image=path
            )
            return last

    def _settings(self, image: "Image", output: PathOrUrl) -> SegmentSettings:
        return replace(self.settings(image), tissue=self.tissue(image, output))

    def _print_plan(self, path: PathOrUrl, output: PathOrUrl) -> None:
        from napari_uhrseg.io.open import open_image

        image = open_image(path)
        settings = self._settings(image, output)
        with err.status("Planning"):
            plan = self.backend.plan(image, settings)
        if self.run.json:
            json_line(event="planned", image=path, **plan_record(plan))
        else:
            _show_plan(plan)
            for question in plan.questions:
                warn(f"{question.text} {question.answer}")

    def _note(self, path: PathOrUrl, done: int, failed: int) -> None:
        if failed:
            reason = f"{failed} blocks could not be read and have no labels."
            hint = "Run the same command to try them again."
            self.report.failed.append(Failure(path, reason, hint))
        elif done:
            self.report.done.append(path)
        else:
            self.report.skipped.append(path)


def _show_plan(plan: "Plan") -> None:
    out.print(Text(plan.summary()), soft_wrap=True)
    out.print(Text(f"Input: {plan.input}"), soft_wrap=True)
    for warning in plan.warnings:
        warn(warning)


def _show(event: "SegmentEvent") -> str | None:
    """Print an event; return the text beside the progress bar."""
    from napari_uhrseg.engine.events import (
        BlockFailed,
        Finished,
        Planned,
        RetriedWithLess,
    )

    match event:
        case Planned(plan):
            _show_plan(plan)
        case BlockFailed(_, reason):
            warn(f"A block failed: {reason}")
        case RetriedWithLess(change=change):
            err.print(f"Out of memory; continuing {change}.")
        case Finished():
            text = f"Segmented in {format_seconds(event.seconds)}"
            if event.left_out_area:
                text += f"; {left_out_text(event.left_out, event.left_out_area)}"
            return text
        case _:
            pass
    return None


def _show_shares(store: "LabelStore") -> None:
    """Print the estimated fraction of each class in the labelled area."""
    shares = store.area_shares()
    for label in store.legend:
        if label.id in shares:
            out.print(swatch(label, f"≈ {shares[label.id]:6.1%}  {label.name}"))
