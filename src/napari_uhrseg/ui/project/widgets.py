"""Widgets of the Project panel, from top to bottom."""

from collections.abc import Callable

from qtpy.QtGui import QAction
from qtpy.QtWidgets import QLineEdit, QMenu, QWidget

from napari_uhrseg.io.project.project import STATES
from napari_uhrseg.ui.project.image_list import ProjectImageList
from napari_uhrseg.ui.segment.settings import ClusterForm
from napari_uhrseg.ui.widgets.layout import (
    CollapsibleSection,
    add_row,
    column_of,
    combo,
    form_of,
    note,
    push_button,
    row_of,
)
from napari_uhrseg.ui.widgets.required import required
from napari_uhrseg.ui.widgets.task_progress import TaskProgress

SEGMENT_TIP = (
    "Segment all images that are not finished, with the chosen checkpoint. Choose "
    "several images of the list to segment only these."
)
CHOSEN_TIP = (
    "Segment the chosen images that are not finished, with the chosen checkpoint."
)


CLUSTER_TIP = (
    "Address of a dask scheduler that segments the images, for example "
    "tcp://10.0.0.1:8786. The workers must find the images, the checkpoint and the "
    "labels at the same paths, and use their own devices."
)


class ProjectWidgets(QWidget):
    """List of images, fields of the chosen image, and the button of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.menu_button = push_button("Pro&ject…", "Open or create a project.")
        self._menu = QMenu(self.menu_button)
        self.menu_button.setMenu(self._menu)
        self.summary = note()
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search names, states and notes")
        self.search.setAccessibleName("Search images")
        self.list = ProjectImageList()
        self.previous = push_button("Previous", "Open the previous image of the list.")
        self.next = push_button("Next", "Open the next image of the list.")
        self.state = combo("State of the chosen image.")
        self.state.addItems(list(STATES))
        self.notes = QLineEdit()
        self.notes.setToolTip("Notes about the chosen image.")
        self.fields = QWidget()
        form = form_of(self.fields)
        add_row(form, "State", self.state)
        add_row(form, "Notes", self.notes)
        self.segment_all = push_button("Segment all", SEGMENT_TIP)
        self.cluster = ClusterForm()
        self.cluster.line.setToolTip(CLUSTER_TIP)
        self.more = CollapsibleSection("More", self.cluster)
        self.progress = TaskProgress()
        self.status = note()
        self.setLayout(
            column_of(
                self.menu_button, self.summary, self.search, self.list,
                row_of(self.previous, self.next), self.fields, self.more,
                self.segment_all,
                self.progress, self.status,
            )
        )  # fmt: skip

    def add_menu_entry(self, title: str, act: Callable[[], None]) -> QAction:
        """Add an entry to the menu of the project, and return it."""
        return required(self._menu.addAction(title, act))
