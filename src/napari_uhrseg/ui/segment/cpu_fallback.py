"""Dialog that asks whether a run may continue on the CPU."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QMessageBox, QWidget

POLL_INTERVAL_S = 0.05


@dataclass
class _Question:
    message: str
    yes: bool = False
    answered: Event = field(default_factory=Event)
    box: QMessageBox | None = None


class CpuFallbackDialog(QObject):
    """Callable for the run's thread that asks the user and waits for the answer.

    Parameters
    ----------
    over
        Widget whose window the dialog belongs to; the window is not blocked.
    stopping
        Function that returns True when the run is cancelled; this ends the waiting.
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
        while not question.answered.wait(POLL_INTERVAL_S):
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
            "Continue on the CPU? This is slower. Finished blocks are kept either way, "
            "and Segment continues from there."
        )
        use_cpu = box.addButton(
            "&Continue on the CPU", QMessageBox.ButtonRole.AcceptRole
        )
        box.addButton("&End the run", QMessageBox.ButtonRole.RejectRole)

        def answered(_: int) -> None:
            question.yes = box.clickedButton() is use_cpu
            question.answered.set()
            question.box = None
            box.deleteLater()

        box.finished.connect(answered)
        box.setModal(False)
        box.show()

    def _close(self, question: _Question) -> None:
        if question.box is not None:
            question.box.reject()
