"""Check that what the documentation names exists in the program."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

import napari_uhrseg
from napari_uhrseg.cli import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "napari_uhrseg"
GUIDES = [DOCS / "get-started.md", *sorted(DOCS.glob("tutorials/*.md")),
          *sorted(DOCS.glob("how-to/*.md")), DOCS / "concepts.md",
          DOCS / "troubleshooting.md"]  # fmt: skip
NAPARI = {
    "Add", "File", "Open Sample", "Plugins", "Preferences", "Save Screenshot…",
    "Save Selected Layers",
    "Remember this choice for files with a .svs extension", "UHR segmentation",
    "napari-uhrseg",
}  # fmt: skip
"""Texts of napari's own menus, and the names of the plugin in them."""


def prose(path: Path) -> str:
    """Return a page without its code."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`", "", text)


def commands() -> Iterator[str]:
    """Yield the commands in the shell blocks of all pages, without redirections."""
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if line.startswith("napari-uhrseg ") and " demo" not in line:
                    yield line.partition(" > ")[0]


@cache
def texts() -> tuple[str, ...]:
    """Return all texts of the package, without the marks of Alt letters."""
    found = [
        node.value.replace("&", "")
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    manifest = (PACKAGE / "napari.yaml").read_text(encoding="utf-8")
    found += re.findall(r"display_name: (.*)", manifest)
    return tuple(found)


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_commands_have_existing_options(line):
    # --help comes after the other options are looked up
    result = CliRunner().invoke(app, [*shlex.split(line)[1:], "--help"])
    assert result.exit_code == 0, result.output


@pytest.mark.slow
@pytest.mark.parametrize("path", GUIDES, ids=lambda p: p.name)
def test_texts_of_the_window_exist(path):
    """Texts in italics, such as *Segment*, and the parts of *File > Open*."""
    known = NAPARI | {text.strip(" :") for text in texts()}
    named = re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", prose(path))
    parts = {part for text in named for part in re.split(r"\s+>\s+", text)}
    assert {part for part in parts if " ".join(part.split()) not in known} == set()


def test_messages_in_troubleshooting_exist():
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^### `(.*)`$", text, re.MULTILINE)
    assert len(messages) > 50
    for message in messages:
        for piece in re.split("…", message):
            literal = piece.strip()
            assert any(literal in known for known in texts()), message


def test_python_reference_contains_all_public_names():
    text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^::: napari_uhrseg\.(\w+)$", text, re.MULTILINE))
    assert set(napari_uhrseg.__all__) - {"__version__"} <= listed
