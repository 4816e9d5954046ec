"""Pages of the documentation site that load nothing from other servers.

MkDocs calls ``on_page_markdown``, which draws the Mermaid diagrams of the pages, and
``on_post_build``, which fails if a page would load a file from another server. Without
this, the theme draws Mermaid diagrams with a script from another server.
"""

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

DIAGRAM = re.compile(r"^```mermaid\nflowchart TD\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EDGE = re.compile(r'\s*(\w+)(?:\["([^"]+)"\])? --> (\w+)(?:\["([^"]+)"\])?\s*')
ELSEWHERE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""")
IN_SCRIPT = re.compile(r"""["'`](https?://[^"'`\s]+)["'`]""")
LOADED = {
    "audio": ("src",), "embed": ("src",), "iframe": ("src",), "img": ("src", "srcset"),
    "image": ("href", "xlink:href"), "input": ("src",), "object": ("data",),
    "script": ("src",), "source": ("src", "srcset"), "track": ("src",),
    "use": ("href", "xlink:href"), "video": ("src", "poster"),
}  # fmt: skip
NOT_LOADED = {"alternate", "author", "canonical", "license", "next", "prev"}
"""Relations of links that a browser does not load."""
NOT_USED = {
    "https://unpkg.com/mermaid@": "pages with Mermaid diagrams",
    "https://unpkg.com/resize-observer-polyfill": "browsers from before 2020",
    "https://api.github.com/": "sites that name their repository",
    "https://${e}/api/v4/": "sites that name their repository",
}
"""Addresses in the theme's script by their beginning, and where it would use them."""


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Return the text with its Mermaid diagrams as HTML."""
    return with_diagrams(markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Fail if a page loads a file from another server."""
    found = sorted(set(external_loads(Path(config.site_dir))))
    if found:
        raise PluginError("The site loads files of other servers:\n" + "\n".join(found))


def with_diagrams(markdown: str) -> str:
    """Return a text whose Mermaid flowcharts are lists of boxes.

    Raises
    ------
    ValueError
        If a flowchart is not a chain of boxes from top to bottom.
    """
    return DIAGRAM.sub(lambda found: "\n".join(_boxes(found[1])), markdown)


def _boxes(chart: str) -> Iterator[str]:
    """Yield the lines of a list with a box for each node of a chain."""
    labels: dict[str, str] = {}
    for line in chart.splitlines():
        edge = EDGE.fullmatch(line)
        if edge is None or (labels and edge[1] != list(labels)[-1]):
            raise ValueError(f"The line {line!r} of a diagram does not continue it.")
        for name, label in (edge.group(1, 2), edge.group(3, 4)):
            labels[name] = label or labels.get(name, name)
    yield '<ol class="layers" aria-label="Layers from top to bottom">'
    yield from (f"<li>{html.escape(label)}</li>" for label in labels.values())
    yield "</ol>"


def external_loads(site: Path) -> Iterator[str]:
    """Yield what the files of a built site load from other servers.

    Parameters
    ----------
    site
        Folder of the site.
    """
    for path in sorted(site.rglob("*")):
        name = path.relative_to(site).as_posix()
        if path.suffix == ".html":
            parser = _Loads()
            parser.feed(path.read_text(encoding="utf-8"))
            yield from (f"{name}: {address}" for address in parser.found)
        elif path.suffix in (".css", ".svg"):
            text = path.read_text(encoding="utf-8")
            yield from (f"{name}: {address}" for address in IN_STYLE.findall(text))
        elif path.suffix == ".js" and "lunr" not in name:
            addresses = IN_SCRIPT.findall(path.read_text(encoding="utf-8"))
            used = (a for a in addresses if not a.startswith(tuple(NOT_USED)))
            yield from (f"{name}: {address}" for address in used)


class _Loads(HTMLParser):
    """Reader of a page; ``found`` has what it loads from other servers."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of an element that a browser loads."""
        values = {name: value or "" for name, value in attrs}
        if tag == "link" and not NOT_LOADED & set(values.get("rel", "").split()):
            self._note(values.get("href", ""))
        for name in LOADED.get(tag, ()):
            self._note(values.get(name, ""))
        if "mermaid" in values.get("class", "").split():
            self.found.append("a Mermaid diagram")
        if values.get("data-md-component") == "source":
            self.found.append("the figures of a repository")
        self.found.extend(IN_STYLE.findall(values.get("style", "")))

    def _note(self, addresses: str) -> None:
        """Note the addresses of an attribute that are on another server."""
        parts = [part.strip() for part in addresses.split(",")]
        self.found.extend(part for part in parts if ELSEWHERE.match(part))
