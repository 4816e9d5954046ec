"""Layer of the pixels in view whose class differs between two checkpoints."""

from pathlib import Path
from typing import Any

import numpy as np
from napari.utils import DirectLabelColormap
from qtpy.QtCore import QObject

from napari_uhrseg.errors import PlanError
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.finetune.result import ResultPanel
from napari_uhrseg.ui.finetune.worker import (
    FineTuneRequest,
    PredictionDifference,
    compare_predictions,
)
from napari_uhrseg.ui.layers.label_layers import LabelsView, remove_later
from napari_uhrseg.ui.layers.viewport import view_rectangle
from napari_uhrseg.ui.workers.worker import Worker, Workers, report
from napari_uhrseg.units import formatted

NAME = "changes"
CLEAR = (0.0, 0.0, 0.0, 0.0)


class ComparisonLayer(QObject):
    """Owner of the layer that shows where the predictions of two checkpoints differ.

    The viewer has at most one such layer. It hides the compared labels meanwhile,
    because its pixels have the same colours and would be invisible over the labels.
    """

    def __init__(self, viewer: Any, workers: Workers, outcome: ResultPanel) -> None:
        super().__init__(outcome)
        self._viewer, self._workers, self._outcome = viewer, workers, outcome
        self.layer: Any = None
        self._over: Any = None
        self._worker: Worker | None = None
        self._removed = viewer.layers.events.removed
        self._removed.connect(self._layer_removed)

    @property
    def running(self) -> bool:
        return self._worker is not None

    def toggle(self, view: LabelsView, request: FineTuneRequest, new: Path) -> None:
        """Compare the predictions in view, or stop a running comparison.

        Parameters
        ----------
        view
            Labels over which the difference is shown.
        request
            Request of the training. Its start is the original checkpoint.
        new
            File of the trained checkpoint.
        """
        if self._worker is not None:
            self._worker.quit()
            return
        seen = view_rectangle(self._viewer, view.layer)
        if seen is None:
            report(PlanError("The image is not in view.", "Move it into view."))
            return
        self._outcome.set_comparing(True)
        self._outcome.set_share("Comparing the two checkpoints…")
        worker: Worker | None = None

        def stopping() -> bool:  # asked from the worker's thread
            return worker is not None and bool(worker.abort_requested)

        def returned(found: PredictionDifference | None) -> None:
            if worker is self._worker and not stopping():
                self._found(found, view, seen)

        def finished() -> None:
            if worker is self._worker:
                self._ended()

        self._worker = worker = self._workers.call(
            compare_predictions, stopping, request, seen, new, view.legend,
            returned=returned, finished=finished,
        )  # fmt: skip

    def _found(
        self, found: PredictionDifference | None, view: LabelsView, seen: Roi
    ) -> None:
        if found is not None and view.alive:
            self.show(found, view.layer)
            part = "" if found.roi == seen else ", in the middle of the view"
            share = (
                f"{formatted(100 * found.share, '.1f')} % of the pixels change{part}."
            )
            self._outcome.set_share(share)

    def _ended(self) -> None:
        stopped = self._worker is not None and bool(self._worker.abort_requested)
        if stopped or self.layer is None:
            self._outcome.set_share("")
        self._worker = None
        self._outcome.set_comparing(False)

    def show(self, found: PredictionDifference, over: Any) -> None:
        """Show the changed pixels over a labels layer, in the new classes' colours."""
        self._take_away()
        scale = np.asarray(over.scale)[-2:]
        corner = np.array([found.roi.y, found.roi.x])
        colors: dict[int | None, tuple[float, ...]] = {None: CLEAR, 0: CLEAR}
        for c in found.legend:
            colors[c.id] = (*(v / 255 for v in c.rgb), 1.0)
        names = [c.name for c in found.legend]
        self.layer = self._viewer.add_labels(
            found.labels,
            name=NAME,
            scale=scale,
            translate=np.asarray(over.translate)[-2:] + corner * scale,
            affine=over.affine.affine_matrix[-3:, -3:],
            units=over.units[-2:],
            colormap=DirectLabelColormap(color_dict=colors),
            features={
                "index": [0, *(c.id for c in found.legend)],
                "class": ["no change", *names],
            },
            opacity=0.9,
        )
        self.layer.editable = False
        self._over, over.visible = over, False

    def remove(self, *, later: bool = False) -> None:
        """Remove the layer, and cancel a comparison that is running.

        ``later`` has the same meaning as in `PaintArea.stop`.
        """
        if self._worker is not None:
            self._worker.quit()
            self._ended()
        self._take_away(later=later)

    def stop(self) -> None:
        """Disconnect from the viewer and remove the layer."""
        self._removed.disconnect(self._layer_removed)
        self.remove()

    def _take_away(self, *, later: bool = False) -> None:
        layer = self._let_go()
        if later and layer is not None:
            remove_later(self._viewer, layer)
        elif layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _let_go(self) -> Any:
        """Show the labels again, and return the layer that covered them, if any."""
        layer, over = self.layer, self._over
        self.layer = self._over = None
        if over in self._viewer.layers:
            over.visible = True
            self._viewer.layers.selection.active = over
        return layer

    def _layer_removed(self, event: Any) -> None:
        if event.value is self.layer:  # by the user
            self._let_go()
            self._outcome.set_share("")
