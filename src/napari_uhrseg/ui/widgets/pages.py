"""Pages that share one place, with a tab for each."""

from collections.abc import Mapping

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QTabBar, QTabWidget, QWidget

from napari_uhrseg.ui.widgets.required import required


class Pages(QTabWidget):
    """Parts of a step of which one is shown at a time."""

    def __init__(self, name: str, pages: Mapping[str, QWidget]) -> None:
        super().__init__()
        self.setDocumentMode(True)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the bar has the focus instead
        bar: QTabBar = required(self.tabBar())
        bar.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        bar.setAccessibleName(name)
        bar.setToolTip("Choose a table.")
        for title, page in pages.items():
            self.addTab(page, title)
