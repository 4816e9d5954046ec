"""Run on the images of a project with one progress, and the states of their labels."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_uhrseg.errors import ClusterError, OtherLabelsError, UhrSegError
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.paths import exists
from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.io.project.project_file import ProjectFile

if TYPE_CHECKING:
    from napari_uhrseg.engine.events import SegmentEvent
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.project.project import Project, ProjectImage
    from napari_uhrseg.types import SegmentSettings

    Segmenter = Callable[[Image, LabelStore, SegmentSettings], Iterator[SegmentEvent]]


@dataclass(frozen=True, slots=True)
class ImageDone:
    """Event: the run of an image ended.

    Attributes
    ----------
    path
        Path of the image in the project.
    error
        Reason of a failure; empty if the run succeeded.
    has_other_labels
        True if the image was left out, because its labels were made with other
        settings.
    """

    path: str
    error: str = ""
    has_other_labels: bool = False


@dataclass(frozen=True, slots=True)
class ProjectRun:
    """Run of a checkpoint on images of a project.

    Parameters
    ----------
    file, paths
        The project file, and the rules to find its files.
    checkpoint
        Checkpoint file.
    settings
        Settings of the runs.
    replacing
        True to replace labels that were made with other settings.
    scheduler
        Address of the cluster that does the work; empty: this process.
    """

    file: ProjectFile
    paths: ProjectPaths
    checkpoint: Path
    settings: "SegmentSettings"
    replacing: bool = False
    scheduler: str = ""

    def events(
        self, images: Sequence[str], stop: Callable[[], bool]
    ) -> "Iterator[ImageDone | SegmentEvent]":
        """Segment images; yield the events with the progress of all of them.

        Finished images are skipped. An image that fails is reported by its event, and
        the others continue.

        Parameters
        ----------
        images
            Paths of images of the project; empty: all images.
        stop
            Function that returns True when the run is cancelled.

        Raises
        ------
        ClusterError
            If no scheduler answers, or the cluster is lost.
        """
        with self._segmenter(stop) as segment:
            yield from self._events(images, stop, segment)

    @contextmanager
    def _segmenter(self, stop: Callable[[], bool]) -> "Iterator[Segmenter]":
        """Yield a function that segments an image, here or on the cluster."""
        if self.scheduler:
            from napari_uhrseg.engine.cluster.client import (
                connected,
                segment_on_cluster,
            )

            with connected(self.scheduler) as client:
                yield lambda image, store, settings: segment_on_cluster(
                    client, image, self.checkpoint, store, settings, stop=stop,
                    replace_other=self.replacing,
                )  # fmt: skip
            return
        from napari_uhrseg.engine.inference.segment import segment
        from napari_uhrseg.models.checkpoint import load_checkpoint

        loaded = load_checkpoint(self.checkpoint)
        yield lambda image, store, settings: segment(
            image, loaded, store, settings, stop=stop, replace_other=self.replacing
        )

    def _events(
        self, images: Sequence[str], stop: Callable[[], bool], segment: "Segmenter"
    ) -> "Iterator[ImageDone | SegmentEvent]":
        """Yield the events of `events`; ``segment`` segments one image."""
        from napari_uhrseg.engine.inference.overall_progress import OverallProgress
        from napari_uhrseg.models.card_header import read_card

        listed = self.paths.relative(self.checkpoint)
        network = read_card(self.checkpoint).legend
        names = dict(self.settings.class_names)
        project = self.file.update(
            lambda p: p.with_network(network, names).with_checkpoint(listed)
        )
        names = {**project.network_names(network), **names}
        settings = replace(self.settings, class_names=tuple(names.items()))
        paths = {i.path for i in project.images}
        wanted = paths.intersection(images) if images else paths
        entries = [i for i in project.images if i.path in wanted]
        opened = [(i, self._opened(i.path, paths)) for i in entries]
        overall = OverallProgress(
            [0 if isinstance(i, str) else i.shape[0] * i.shape[1] for _, i in opened]
        )
        for number, (entry, image) in enumerate(opened):
            if stop():
                return
            try:
                if isinstance(image, str):
                    yield ImageDone(entry.path, image)
                    continue
                events = self._run(entry, image, settings, segment)
                with closing(events):
                    yield from overall.of(number, events)
            except OtherLabelsError as error:
                yield ImageDone(entry.path, str(error), has_other_labels=True)
                continue
            except ClusterError:
                raise
            except UhrSegError as error:
                yield ImageDone(entry.path, str(error))
                continue
            if not stop():
                yield ImageDone(entry.path)

    def _opened(self, path: str, listed: set[str]) -> "Image | str":
        try:
            return open_image(self.paths.image(path, listed))
        except UhrSegError as error:
            return str(error)

    def _run(
        self,
        entry: "ProjectImage",
        image: "Image",
        settings: "SegmentSettings",
        segment: "Segmenter",
    ) -> "Generator[SegmentEvent, None, None]":
        from napari_uhrseg.engine.events import Finished
        from napari_uhrseg.io.project.project_stores import observed_state, sync_classes
        from napari_uhrseg.io.tissue.stored_mask import read_tissue

        path, labels, changed = entry.path, entry.labels, False
        with self._store(labels, image) as store:
            sync_classes(store, self.file.read())
            if store.runs and store.runs[-1].tissue:
                tissue = read_tissue(store.path, store.shape)
                settings = replace(settings, tissue=tissue)
            events = segment(image, store, settings)
            for event in events:
                changed = changed or (isinstance(event, Finished) and event.done > 0)
                yield event
        where = self.paths.resolve(labels)
        state = observed_state(where)

        def note(project: "Project") -> "Project":
            is_kept = project.image(path).state == "reviewed" and not changed
            return project if is_kept else project.with_image(path, state=state)

        self.file.update(note)

    def _store(self, labels: str, image: "Image") -> "LabelStore":
        from napari_uhrseg.io.labels.store import LabelStore

        where = self.paths.resolve(labels)
        if exists(where):
            return LabelStore.open(where, write=True)
        return LabelStore.create(where, image, self.file.read().legend)


def observe_labels(file: ProjectFile, paths: ProjectPaths, labels: Path) -> "Project":
    """Write the state of a label store to its project, and return the project.

    Parameters
    ----------
    file, paths
        The project file, and the rules to find its files.
    labels
        The label store. The state of a reviewed image does not change.
    """
    from napari_uhrseg.io.project.project_stores import observed_state

    project = file.read()
    own = next((i for i in project.images if paths.folder / i.labels == labels), None)
    if own is None or own.state == "reviewed":
        return project
    state = observed_state(labels)
    if state == own.state:
        return project
    return file.update(lambda p: p.with_image(own.path, state=state))
