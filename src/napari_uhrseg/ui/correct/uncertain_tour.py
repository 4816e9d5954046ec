"""Visits of uncertain regions, one after the other, also in images of a project."""

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QPushButton

from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.types import Roi, UncertainRegion
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.workers.worker import Workers
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from napari_uhrseg.io.project.region_ranking import ProjectRegion

NONE_LEFT = "No uncertain region is left in the segmented area."
NONE_IN_PROJECT = "No uncertain region is left in the images of the project."


class UncertainTour(QObject):
    """Visits of the uncertain regions of the displayed labels, none of them twice.

    A button offers to go to another image of the project if it has a less certain
    region than the displayed labels.

    Parameters
    ----------
    button
        The button, which is hidden if there is no such image.
    workers
        Workers of the panel.
    parent
        Qt parent.
    """

    reached = Signal(object, str)  # Roi to show or None, text of the status
    othersWanted = Signal(object, object)  # label store; visited regions by label store
    imageWanted = Signal(str)  # path of an image in the project

    def __init__(self, button: QPushButton, workers: Workers, parent: QObject) -> None:
        super().__init__(parent)
        self._button, self._workers = button, workers
        self._view: LabelsView | None = None
        self._seen: dict[PathOrUrl, list[Roi]] = {}  # by label store
        self._score: float | None = None  # highest one left here; None: not known
        self._others: tuple[ProjectRegion, ...] | None = None  # None: not searched
        self._offered: ProjectRegion | None = None
        self._wanted: ProjectRegion | None = None  # region whose image is being opened
        button.clicked.connect(lambda _: self._go_elsewhere())
        button.hide()

    def set_view(self, view: LabelsView | None) -> None:
        """Set the displayed labels; show the region for which they were opened."""
        self._view, self._score = view, None
        self.forget_others()
        wanted = self._wanted
        if view is None or wanted is None or view.store.path != wanted.labels:
            return
        self._wanted = None
        # later: opening an image also shows its last view
        QTimer.singleShot(0, lambda: self._visit(view, wanted.region.roi))

    def forget_others(self) -> None:
        """Search the other images again next time: their labels may have changed."""
        self._others = None
        self._offer()

    def set_others(
        self, labels: PathOrUrl, regions: "tuple[ProjectRegion, ...]"
    ) -> None:
        """Set the uncertain regions of the other images of the project.

        Parameters
        ----------
        labels
            Label store for which they were searched.
        regions
            The regions, the least certain first.
        """
        if self._view is not None and self._view.store.path == labels:
            self._others = regions
            self._offer()

    def go(self) -> None:
        """Go to the next region, and search the other images if that is necessary."""
        from napari_uhrseg.io.corrections import uncertain_regions

        if (view := self._view) is None:
            return
        self._wanted = None
        self._workers.call(
            uncertain_regions.find_uncertain_regions,
            view.store,
            tuple(self._seen.get(view.store.path, ())),
            returned=partial(self._found, view),
        )
        if self._others is None:
            seen = {labels: tuple(rois) for labels, rois in self._seen.items()}
            self.othersWanted.emit(view.store.path, seen)

    def _found(self, view: LabelsView, found: tuple[UncertainRegion, ...]) -> None:
        """Show the first of the uncertain regions of a view."""
        if view is not self._view:
            return
        self._score = max((region.score for region in found), default=0.0)
        if found:
            self._visit(view, found[0].roi, f"; {len(found) - 1} more")
        else:
            self.reached.emit(None, NONE_LEFT)
        self._offer()

    def _visit(self, view: LabelsView, roi: Roi, rest: str = "") -> None:
        if view is self._view:
            seen = self._seen.setdefault(view.store.path, [])
            seen.append(roi)
            self.reached.emit(roi, f"Uncertain region {len(seen)}{rest}.")

    def _offer(self) -> None:
        """Show the button if another image has a less certain region."""
        here, others = self._score, self._others
        best = others[0] if others else None
        if here is None or best is None or best.region.score <= here:
            best = None
        self._offered = best
        self._button.setVisible(best is not None)
        if best is not None:
            score = formatted(best.region.score, ".0%")
            self._button.setText(f"Go to {best.name} ({score} uncertain)")
            self._button.setToolTip(
                f"Open {best.image} and go to its most uncertain region ({score})."
            )
        elif here == 0 and others is not None:
            self.reached.emit(None, NONE_IN_PROJECT)

    def _go_elsewhere(self) -> None:
        if self._offered is not None:
            self._wanted = self._offered
            self.imageWanted.emit(self._wanted.image)
