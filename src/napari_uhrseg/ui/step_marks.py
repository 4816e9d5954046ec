"""Marks on the tabs of the panel: which steps of the shown image are done or run."""

from qtpy.QtCore import QObject

from napari_uhrseg.ui.correct.panel import CorrectPanel
from napari_uhrseg.ui.finetune.panel import FineTunePanel
from napari_uhrseg.ui.finetune.state import FineTuneState
from napari_uhrseg.ui.image.panel import ImagePanel
from napari_uhrseg.ui.labels.export_panel import ExportPanel
from napari_uhrseg.ui.segment.panel import SegmentPanel
from napari_uhrseg.ui.segment.state import BUSY
from napari_uhrseg.ui.widgets.step_tabs import StepMark, StepTabs


class StepMarks(QObject):
    """Marks that follow the states of the parts."""

    def __init__(
        self,
        tabs: StepTabs,
        image: ImagePanel,
        segment: SegmentPanel,
        correct: CorrectPanel,
        finetune: FineTunePanel,
        export: ExportPanel,
    ) -> None:
        super().__init__(tabs)
        self._tabs, self._image, self._segment = tabs, image, segment
        self._correct, self._finetune, self._export = correct, finetune, export
        self._corrected = False
        image.changed.connect(self.update)
        segment.busyChanged.connect(self.update)
        segment.viewChanged.connect(self.update)
        correct.correct.toggled.connect(self.update)
        correct.counted.connect(self._counted)
        finetune.stateChanged.connect(self.update)
        export.stateChanged.connect(self.update)
        self.update()

    def update(self, _: object = None) -> None:
        """Set the mark of every step."""
        segment, export, state = self._segment, self._export, self._finetune.state
        labelled = segment.view is not None and bool(segment.view.store.runs)
        undecided = state is FineTuneState.UNDECIDED
        training = state is FineTuneState.TRAINING
        marks = {
            "Image": _mark(False, self._image.image is not None),
            "Segment": _mark(segment.state in BUSY, labelled),
            "Correct": _mark(self._correct.correct.isChecked(), self._corrected),
            "Train": StepMark.WAITING
            if undecided
            else _mark(training, self._finetune.kept),
            "Results": _mark(export.running, export.exported),
        }
        for title, mark in marks.items():
            self._tabs.set_mark(title, mark)

    def _counted(self, counts: dict[int, int]) -> None:
        self._corrected = bool(counts)
        self.update()


def _mark(running: bool, done: bool) -> StepMark:
    """Return the mark of a step that runs or is done."""
    if running:
        return StepMark.RUNNING
    return StepMark.DONE if done else StepMark.NONE
