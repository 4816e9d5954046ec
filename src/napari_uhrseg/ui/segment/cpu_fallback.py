"""A question that a worker's thread asks the person, and waits for the answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QMessageBox, QWidget

WAIT = 0.05  # seconds between two looks whether the run is to end


@dataclass
class _Question:
    message: str
    yes: bool = False
    answered: Event = field(default_factory=Event)
    box: QMessageBox | None = None


class CpuFallbackDialog(QObject):
    """Whether a run may go on on the CPU; called from the run's thread.

    Parameters
    ----------
    over
        The question stands before this widget's window, and holds up nothing in it.
    stopping
        Whether the run is to end: then nobody waits for an answer.
    """

    _asked = Signal(object)
    _withdrawn = Signal(object)

    def __init__(
        self, over: QWidget, stopping: Callable[[], bool], parent: QObject
    ) -> None:
        super().__init__(parent)
        self._over, self._stopping = over, stopping
        self._asked.connect(self._show)
        self._withdrawn.connect(self._close)

    def __call__(self, message: str) -> bool:
        question = _Question(message)
        self._asked.emit(question)
        while not question.answered.wait(WAIT):
            if self._stopping():
                self._withdrawn.emit(question)
                return False
        return question.yes

    def _show(self, question: _Question) -> None:
        box = question.box = QMessageBox(self._over.window())
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle("Too little memory")
        box.setText(question.message)
        box.setInformativeText(
            "Go on on the CPU? It is slower. What is done stays either way, and "
            "Segment goes on from there."
        )
        go_on = box.addButton("&Go on on the CPU", QMessageBox.ButtonRole.AcceptRole)
        box.addButton("&End the run", QMessageBox.ButtonRole.RejectRole)

        def answered(_: int) -> None:
            question.yes = box.clickedButton() is go_on
            question.answered.set()
            question.box = None
            box.deleteLater()

        box.finished.connect(answered)
        box.setModal(False)
        box.show()

    def _close(self, question: _Question) -> None:
        if question.box is not None:
            question.box.reject()
