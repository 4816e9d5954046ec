"""Search for uncertain regions in the other images of a project."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, Signal

from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.io.project.project import Project
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.workers.worker import Workers
from napari_uhrseg.units import counted

if TYPE_CHECKING:
    from napari_uhrseg.errors import UhrSegError
    from napari_uhrseg.io.project.region_ranking import ProjectRegion

    Ranked = tuple[tuple[ProjectRegion, ...], dict[str, UhrSegError]]


class UncertainSearch(QObject):
    """Worker that ranks the uncertain regions of the other images of a project.

    Parameters
    ----------
    workers
        Workers of the panel.
    opened
        Function that returns the project, and None or the rules to find its files.
    parent
        Qt parent.
    """

    found = Signal(object, object)  # label store not searched, tuple of ProjectRegion

    def __init__(
        self,
        workers: Workers,
        opened: Callable[[], tuple[Project, ProjectPaths | None]],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._workers, self._opened = workers, opened
        self._running: PathOrUrl | None = None  # label store not searched

    def start(
        self, labels: PathOrUrl, seen: Mapping[PathOrUrl, Collection[Roi]]
    ) -> None:
        """Search all images but one, unless this search is running already.

        Parameters
        ----------
        labels
            Label store of the image that is not searched. Nothing is searched if no
            image of the project has it.
        seen
            Level-0 rectangles that were visited, by label store.
        """
        project, paths = self._opened()
        if paths is None or labels == self._running:
            return
        others = [i for i in project.images if paths.folder / i.labels != labels]
        if len(others) == len(project.images):
            return

        def ended() -> None:
            self._running = None

        self._running = labels
        self._workers.call(
            _rank,
            {i.path: partial(paths.resolve, i.labels) for i in others},
            seen,
            returned=partial(self._ranked, labels),
            finished=ended,
        )

    def _ranked(self, labels: PathOrUrl, ranked: "Ranked") -> None:
        """Emit the regions, and warn of images that could not be searched."""
        regions, failed = ranked
        if failed:
            images = "\n".join(f"{path}: {error}" for path, error in failed.items())
            show_warning(
                f"{counted(len(failed), 'image')} of the project could not be searched "
                f"for uncertain regions.\n{images}"
            )
        self.found.emit(labels, regions)


def _rank(
    labels: Mapping[str, Callable[[], PathOrUrl]],
    seen: Mapping[PathOrUrl, Collection[Roi]],
) -> "Ranked":
    """Return the regions, and the errors of images that could not be searched."""
    from napari_uhrseg.io.project.region_ranking import rank_uncertain_regions

    return rank_uncertain_regions(labels, seen)
