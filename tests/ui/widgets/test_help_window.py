"""Tests of the help window: pages, links, sections of messages, and the button."""

import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt, QUrl
from qtpy.QtGui import QDesktopServices

from napari_uhrseg.errors import OpenError
from napari_uhrseg.ui.panel import HELP
from napari_uhrseg.ui.widgets.help_window import (
    Page,
    docs_dir,
    section_of,
    show_help,
)
from napari_uhrseg.ui.workers.worker import report


@pytest.fixture
def page(qtbot):
    shown = Page()
    qtbot.addWidget(shown)
    return shown


def links(page: Page) -> set[str]:
    block, found = page.document().begin(), set()
    while block.isValid():
        for each in block.textFormats():
            found.add(each.format.anchorHref())
        block = block.next()
    return found - {""}


def test_every_link_of_every_page_can_be_followed(page):
    names = [p.relative_to(docs_dir()).as_posix() for p in docs_dir().rglob("*.md")]
    assert set(HELP.values()) <= set(names)
    for name in names:
        page.show_page(name)
        for link in links(page):
            url = QUrl(link)
            target = docs_dir() / name
            inside = (target.parent / url.path()).resolve()
            assert url.scheme() in ("http", "https") or inside.is_file(), (name, link)


def test_links_lead_to_pages_and_back(page):
    page.show_page("how-to/install.md")
    (link,) = (one for one in links(page) if "dependencies" in one)
    page.anchorClicked.emit(QUrl(link))
    assert page.toPlainText().startswith("Dependencies")
    page.go_back()
    assert page.toPlainText().startswith("Install")


def test_web_links_open_in_the_web_browser(page, monkeypatch):
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    page.anchorClicked.emit(QUrl("https://napari.org"))
    assert opened == [QUrl("https://napari.org")]


def test_pictures_are_not_wider_than_the_window(page):
    page.resize(500, 400)
    page.show_page("get-started.md")
    picture = page.loadResource(2, QUrl("images/segmenting.png"))
    assert 400 < picture.width() < 500
    assert page.loadResource(2, QUrl("../pyproject.toml")) is None


def test_sections_of_messages():
    assert section_of("a.docx is of no known format.") == "… is of no known format."
    assert section_of("Nothing like this is in the page.") == ""


def test_error_offers_the_section_on_its_message(qtbot):
    report(OpenError("a.docx is of no known format.", "Choose another file."))
    ((title, show),) = notification_manager.records[-1].actions
    assert title == "Help"
    show(None)
    window = show_help("troubleshooting.md", "… is of no known format.")
    assert "is of no known format" in window.page.textCursor().block().text()
    window.close()
    report(OpenError("A message without a section.", ""))
    assert notification_manager.records[-1].actions == []


@pytest.mark.gui
@pytest.mark.slow
def test_button_and_key_show_the_page_of_the_step(panel, qtbot):
    for step, name in HELP.items():
        panel.show_step(step)
        panel.tabs.help.click()
        window = show_help()
        window.page.go_back()
        first = (docs_dir() / name).read_text(encoding="utf-8").partition("\n")[0]
        assert window.page.toPlainText().startswith(first.removeprefix("# "))
        window.close()
    bar = panel.tabs.tabBar()
    panel.window().activateWindow()
    bar.setFocus()
    qtbot.waitUntil(bar.hasFocus)
    qtbot.keyClick(bar, Qt.Key.Key_F1)
    qtbot.waitUntil(window.isVisible)
    window.close()
