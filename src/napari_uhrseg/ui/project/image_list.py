"""List of the images of a project, with thumbnails and states."""

from collections.abc import Iterator, Mapping

from qtpy.QtCore import QItemSelectionModel, QSize, Qt
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem

from napari_uhrseg.io.project.project import Project, ProjectImage
from napari_uhrseg.ui.project.thumbnails import SIDE, Colors
from napari_uhrseg.ui.widgets.required import required

PATH = Qt.ItemDataRole.UserRole  # path of the image of an entry
TEXT = Qt.ItemDataRole.UserRole + 1  # text that is searched
MARGIN = 6  # pixels around a thumbnail


class ProjectImageList(QListWidget):
    """List with an entry for each image of a project."""

    def __init__(self) -> None:
        super().__init__()
        self._words: list[str] = []
        self._entries: dict[str, QListWidgetItem] = {}  # by the path of the image
        self._filled: dict[str, tuple[ProjectImage, str]] = {}  # what they show
        self.setAccessibleName("Images of the project")
        self.setIconSize(QSize(SIDE, SIDE))
        self.setUniformItemSizes(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)

    @property
    def chosen(self) -> str | None:
        """Path of the image of the chosen entry; None if none is chosen."""
        item = self.currentItem()
        return None if item is None else str(item.data(PATH))

    @property
    def several(self) -> tuple[str, ...]:
        """Paths of the chosen images that the search shows, if there are several."""
        items = (i for i in self._items() if i.isSelected() and not i.isHidden())
        paths = tuple(str(item.data(PATH)) for item in items)
        return paths if len(paths) > 1 else ()

    def set_images(self, project: Project, errors: Mapping[str, str]) -> None:
        """Show the images of a project; entries that remain keep their thumbnails.

        ``errors`` maps the path of an image to the reason why it cannot be used.
        """
        wanted = {i.path: (i, errors.get(i.path, "")) for i in project.images}
        for path in [path for path in self._entries if path not in wanted]:
            self.takeItem(self.row(self._entries.pop(path)))
            del self._filled[path]
        for path, shown in wanted.items():
            if self._filled.get(path) != shown:  # filling all takes too long
                if path not in self._entries:
                    self._add(path)
                self._filled[path] = shown
                _fill(self._entries[path], *shown)
                self._hide_unless_found(self._entries[path])

    def clear(self) -> None:
        """Remove all entries."""
        super().clear()
        self._entries.clear()
        self._filled.clear()

    def search(self, text: str) -> None:
        """Show only the entries that contain all words of a text."""
        self._words = text.lower().split()
        for item in self._entries.values():
            self._hide_unless_found(item)

    def _hide_unless_found(self, item: QListWidgetItem) -> None:
        found = all(word in str(item.data(TEXT)) for word in self._words)
        item.setHidden(not found)

    def choose(self, path: str) -> QListWidgetItem | None:
        """Choose the entry of an image; None if there is none."""
        item = self._entries.get(path)
        if item is not None:
            self.setCurrentItem(item, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        return item

    def choose_next(self, by: int) -> QListWidgetItem | None:
        """Choose the next (1) or previous (-1) visible entry; None if there is none."""
        rows = [self.row(i) for i in self._items() if not i.isHidden()]
        now = self.currentRow()
        later = [r for r in rows if (r > now if by > 0 else r < now)]
        if not later:
            return None
        row = later[0] if by > 0 else later[-1]
        self.setCurrentRow(row, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        return self.currentItem()

    def without_thumbnail(self) -> list[str]:
        """Return the paths of the images that have no thumbnail yet."""
        return [path for path, i in self._entries.items() if i.icon().isNull()]

    def set_thumbnail(self, path: str, colors: Colors) -> None:
        """Show the thumbnail of an image, (h, w, 3) uint8."""
        if path in self._entries:
            self._entries[path].setIcon(_icon(colors))

    def _items(self) -> Iterator[QListWidgetItem]:
        for row in range(self.count()):
            yield required(self.item(row))

    def _add(self, path: str) -> None:
        item = self._entries[path] = QListWidgetItem()
        item.setData(PATH, path)
        item.setSizeHint(QSize(0, SIDE + MARGIN))
        self.addItem(item)


def _fill(item: QListWidgetItem, image: ProjectImage, error: str) -> None:
    problem = ", with a problem" if error else ""
    item.setText(f"{image.name}\n{image.state}{problem}")
    item.setToolTip("\n".join(filter(None, (image.path, image.notes, error))))
    item.setData(TEXT, f"{image.path} {image.state} {image.notes}".lower())


def _icon(colors: Colors) -> QIcon:
    height, width, _ = colors.shape
    data = colors.tobytes()
    image = QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888)
    return QIcon(QPixmap.fromImage(image.copy()))
