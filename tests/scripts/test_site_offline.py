"""The diagrams of the documentation site, and the check of what its pages load."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra docs is not installed")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def offline(monkeypatch):
    """Return the hook as MkDocs imports it."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import site_offline

    yield site_offline
    sys.modules.pop("site_offline")


def chart(*lines: str) -> str:
    return "\n".join(["Text.", "", "```mermaid", "flowchart TD", *lines, "```", ""])


def test_diagram_is_a_list_from_top_to_bottom(offline):
    text = offline.with_diagrams(chart('    cli --> low["io | a<b"]', "    low --> E"))
    assert text == (
        'Text.\n\n<ol class="layers" aria-label="Layers from top to bottom">\n'
        "<li>cli</li>\n<li>io | a&lt;b</li>\n<li>E</li>\n</ol>\n"
    )


@pytest.mark.parametrize("line", ["    A --> C", "    B -.-> C", "    B"])
def test_diagram_that_is_not_a_chain_is_refused(offline, line):
    with pytest.raises(ValueError, match="does not continue"):
        offline.with_diagrams(chart("    A --> B", line))


def test_all_diagrams_of_the_documentation_are_chains(offline):
    for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"]:
        text = path.read_text(encoding="utf-8")
        assert "```mermaid" not in offline.with_diagrams(text), path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script src="https://a.org/b.js"></script>'),
        ("a.html", '<link rel="stylesheet" href="//a.org/b.css">'),
        ("a.html", '<link rel="preconnect" href="https://a.org">'),
        ("a.html", '<img srcset="b.png, https://a.org/b.png 2x">'),
        ("a.html", '<p style="background: url(https://a.org/b.png)">'),
        ("a.html", '<pre class="mermaid"></pre>'),
        ("b/a.css", '@import "https://a.org/b.css";'),
        ("b/a.css", "p {background: url('//a.org/b.woff2')}"),
        ("a.js", 'load("https://a.org/b.js")'),
    ],
)
def test_files_of_other_servers_are_found(offline, tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    found = list(offline.external_loads(tmp_path))
    assert len(found) == 1
    assert found[0].startswith(f"{name}: ")


def test_links_and_own_files_are_accepted(offline, tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="https://a.org">A</a><img src="b.png"><img src="data:image/png;,">'
        '<link rel="canonical" href="https://a.org"><script src="../b.js"></script>'
    )
    (tmp_path / "a.css").write_text("p {background: url(data:image/svg+xml;,)}")
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    assert list(offline.external_loads(tmp_path)) == []
