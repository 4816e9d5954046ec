"""Columns of a table and its height."""

from qtpy.QtWidgets import QHeaderView, QTreeWidget

from napari_uhrseg.ui.widgets.required import required

SMALLEST_ROW = 18  # pixels
MARGIN = 4  # pixels


def set_columns(table: QTreeWidget, titles: list[str]) -> None:
    """Set the columns: the first one stretches, the others fit their content."""
    table.setHeaderLabels(titles)
    header = required(table.header())
    header.setStretchLastSection(False)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    for column in range(1, len(titles)):
        header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)


def header_height(table: QTreeWidget) -> int:
    """Return the height of the column titles in pixels."""
    return required(table.header()).sizeHint().height()


def fit_height(table: QTreeWidget, rows: int) -> None:
    """Set the height of a table so that this number of rows is visible."""
    row = max(table.sizeHintForRow(0), SMALLEST_ROW)
    frame = 2 * table.frameWidth() + MARGIN
    table.setFixedHeight(header_height(table) + row * rows + frame)
