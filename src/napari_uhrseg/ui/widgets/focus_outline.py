"""Outline of the widget with keyboard focus, which napari's themes lack."""

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QApplication, QWidget

from napari_uhrseg.ui.widgets.colours import ORANGE

FOCUS = f"""
QPushButton:focus, QComboBox:focus, QAbstractSpinBox:focus, QLineEdit:focus,
QCheckBox:focus, QTreeWidget:focus {{ border: 1px solid {ORANGE}; }}
"""


class FocusOutline(QObject):
    """Outline around the widget below ``top`` that has keyboard focus.

    A style sheet of ``top`` would have the same effect, but Qt would apply it to every
    widget below ``top``, which delays the panel by 0.05 s.
    """

    def __init__(self, top: QWidget) -> None:
        super().__init__(top)
        self._top = top
        application = QApplication.instance()
        assert isinstance(application, QApplication)
        application.focusChanged.connect(self._moved)

    def _moved(self, old: QWidget | None, new: QWidget | None) -> None:
        if old is not None and self._holds(old):
            old.setStyleSheet(old.styleSheet().removesuffix(FOCUS))
        if new is not None and self._holds(new):
            new.setStyleSheet(new.styleSheet() + FOCUS)

    def _holds(self, widget: QWidget | None) -> bool:
        while widget is not None and widget is not self._top:
            widget = widget.parentWidget()
        return widget is not None
