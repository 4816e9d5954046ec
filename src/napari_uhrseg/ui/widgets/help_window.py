"""Window with the pages of the documentation, which the package contains."""

import re
from functools import cache
from pathlib import Path

from napari.utils.notifications import (
    Notification,
    NotificationSeverity,
    notification_manager,
)
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices, QImage, QTextCursor
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QTextBrowser, QVBoxLayout, QWidget

HOME = "index.md"
TROUBLESHOOTING = "troubleshooting.md"
SIZE = 760, 720  # of the window in pixels
MARGIN = 40  # pixels beside a picture that is as wide as the window
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)]+)\)")


def docs_dir() -> Path:
    """Return the folder of the pages: in the package, or in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "docs"
    return installed if installed.is_dir() else package.parents[1] / "docs"


@cache
def _messages() -> list[tuple[re.Pattern[str], str]]:
    """Return the messages with a section in the page on troubleshooting."""
    text = (docs_dir() / TROUBLESHOOTING).read_text(encoding="utf-8")
    found = []
    for message in re.findall(r"^### `(.*)`$", text, re.MULTILINE):
        pieces = [re.escape(piece) for piece in message.split("…")]
        found.append((re.compile(".*?".join(pieces), re.DOTALL), message))
    return found


def section_of(text: str) -> str:
    """Return the title of the section on a message, or "" if there is none."""
    fitting = [title for pattern, title in _messages() if pattern.match(text)]
    return max(fitting, key=len, default="")


class ErrorMessage(Notification):
    """Notification of an error; napari shows its source beside the buttons."""

    @property
    def source(self) -> str:
        """Name of the plugin; napari would show its own manager."""
        return "napari-uhrseg"


def show_error(text: str) -> None:
    """Show an error as a notification, with a button to the section on its message.

    Any thread may call this function.
    """

    def show_section(_: object) -> None:
        show_help(TROUBLESHOOTING, section)

    section = section_of(text)
    actions = [("Help", show_section)] if section else []
    notification_manager.dispatch(
        ErrorMessage(text, NotificationSeverity.ERROR, actions)
    )


class Page(QTextBrowser):
    """Browser of Markdown files in one folder; web links open in the web browser."""

    def __init__(self) -> None:
        super().__init__()
        self.setOpenLinks(False)
        self.setAccessibleName("Page of the documentation")
        self.anchorClicked.connect(self._follow)
        self._folder = docs_dir()
        self._path = self._folder / HOME
        self._earlier: list[Path] = []

    def show_page(self, name: str, section: str = "") -> None:
        """Show a file of the folder, scrolled to the text of a section's title."""
        self._earlier.append(self._path)
        self._load(self._folder / name, section)

    def go_back(self) -> None:
        """Show the page before."""
        if self._earlier:
            self._load(self._earlier.pop())

    def _load(self, path: Path, section: str = "") -> None:
        self._path = path
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"^<!--.*?-->\n?", "", text, flags=re.MULTILINE | re.DOTALL)
        text = re.sub(r"^::: (.*)$", r"- `\1`", text, flags=re.MULTILINE)
        self.setMarkdown(LINK.sub(self._existing, text))
        if section and self.find(section):
            self._scroll_to_cursor()

    def _scroll_to_cursor(self) -> None:
        bar = self.verticalScrollBar()
        if bar is not None:
            bar.setValue(bar.value() + self.cursorRect().top())
        cursor = self.textCursor()
        cursor.movePosition(QTextCursor.MoveOperation.StartOfBlock)
        self.setTextCursor(cursor)

    def _existing(self, link: re.Match[str]) -> str:
        """Return a link, or only its text if its page is not in the folder."""
        target = link[2].partition("#")[0]
        if ":" in target or not target:
            return link[0] if target else link[1]
        path = (self._path.parent / target).resolve()
        inside = path.is_relative_to(self._folder) and path.suffix == ".md"
        return link[0] if inside and path.is_file() else link[1]

    def _follow(self, url: QUrl) -> None:
        if url.scheme() in ("http", "https"):
            QDesktopServices.openUrl(url)
            return
        path = (self._path.parent / url.path()).resolve()
        section = url.fragment().replace("-", " ")
        self.show_page(path.relative_to(self._folder).as_posix(), section)

    def loadResource(self, kind: int, name: QUrl) -> object:
        """Return a picture of a page, at most as wide as the window."""
        path = (self._path.parent / name.path()).resolve()
        if not path.is_relative_to(self._folder):
            return None
        image = QImage(str(path))
        width = self.width() - MARGIN
        if image.width() > width:
            smooth = Qt.TransformationMode.SmoothTransformation
            image = image.scaledToWidth(width, smooth)
        return image


class HelpWindow(QWidget):
    """Window with a page, and buttons to the page before and to all pages."""

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle("Help - UHR segmentation")
        # the program ends with napari's window
        self.setAttribute(Qt.WidgetAttribute.WA_QuitOnClose, False)
        self.resize(*SIZE)
        self.page = Page()
        buttons = QHBoxLayout()
        for text, slot in (
            ("&Back", self.page.go_back),
            ("&All pages", lambda: self.page.show_page(HOME)),
            ("&Troubleshooting", lambda: self.page.show_page(TROUBLESHOOTING)),
        ):
            button = QPushButton(text)
            button.clicked.connect(slot)
            buttons.addWidget(button)
        buttons.addStretch(1)
        column = QVBoxLayout(self)
        column.addLayout(buttons)
        column.addWidget(self.page)


_WINDOWS: list[HelpWindow] = []  # one for the process, made at the first use


def show_help(name: str = HOME, section: str = "") -> HelpWindow:
    """Show a page in the help window, scrolled to a section.

    Parameters
    ----------
    name
        Path of the page in the folder of the documentation.
    section
        Text of the section's title; "" for the top of the page.
    """
    if not _WINDOWS:
        _WINDOWS.append(HelpWindow())
    window = _WINDOWS[0]
    window.page.show_page(name, section)
    window.show()
    window.raise_()
    window.activateWindow()
    return window
