"""Check the project's texts against the word list in CONTRIBUTING.md."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "napari_uhrseg"

PATTERNS = (
    "*.md", "docs/**/*.md", "sample_data/*.md", "tests/*/*.md",
    "*.sh", "scripts/*.sh", ".ci/run", "Makefile",
)  # fmt: skip
DOCUMENTS = tuple(
    sorted(
        str(path.relative_to(ROOT))
        for pattern in PATTERNS
        for path in ROOT.glob(pattern)
    )
)
"""Documents and scripts that follow the word list."""

# fmt: off
CHECKED = (
    "__init__.py",
    "atomic.py",
    "cli",
    "engine/__init__.py",
    "engine/background_writer.py",
    "engine/cancellation.py",
    "engine/cluster",
    "engine/data",
    "engine/evaluation",
    "engine/events.py",
    "engine/finetuning",
    "engine/inference",
    "engine/network",
    "engine/planning",
    "engine/prefetch.py",
    "engine/selection",
    "engine/tiling",
    "engine/training",
    "errors.py",
    "io/corrections",
    "io/image",
    "io/labels",
    "io/open.py",
    "io/paths.py",
    "io/readers",
    "main_memory.py",
    "models",
    "samples",
    "types/__init__.py",
    "types/card.py",
    "types/corrections.py",
    "types/finetuning.py",
    "types/legend.py",
    "types/model_spec.py",
    "types/regions.py",
    "types/segmentation.py",
    "ui/correct",
    "ui/demo.py",
    "ui/dock.py",
    "ui/finetune",
    "ui/image",
    "ui/labels",
    "ui/layers",
    "ui/napari_writers.py",
    "ui/panel.py",
    "ui/plugin.py",
    "ui/segment",
    "ui/widgets",
    "ui/workers",
    "units.py",
)
# fmt: on
"""Packages and modules below src/napari_uhrseg that follow the word list."""

WORDS = re.compile(r"<!-- words -->(.*?)<!-- end -->", re.DOTALL)


def word_list() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the replacement and the allowed phrases of each forbidden phrase."""
    text = WORDS.search((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert text, "CONTRIBUTING.md has no word list"
    entries = {}
    for line in text[1].strip().splitlines()[2:]:
        forbidden, replacement, allowed = (
            cell.strip() for cell in line.strip().strip("|").split("|")
        )
        phrases = tuple(phrase.strip() for phrase in allowed.split(",") if phrase)
        for phrase in forbidden.split(","):
            entries[phrase.strip()] = (replacement, phrases)
    return entries


LIST = word_list()


def pattern(phrase: str) -> str:
    """Return a regular expression that matches the phrase across line breaks."""
    return rf"(?<![\w-]){re.escape(phrase)}(?![\w-])".replace(r"\ ", r"\s+")


FORBIDDEN = {
    phrase: re.compile(
        "|".join(
            [*(f"({pattern(ok)})" for ok in allowed), f"(?P<bad>{pattern(phrase)})"]
        ),
        re.IGNORECASE,
    )
    for phrase, (_, allowed) in LIST.items()
}


def findings(text: str) -> list[str]:
    """Return one message for each forbidden phrase in the text."""
    return [
        f"{phrase!r}: write {LIST[phrase][0]!r}"
        for phrase, expression in FORBIDDEN.items()
        if any(match["bad"] for match in expression.finditer(text))
    ]


def prose(markdown: str) -> str:
    """Return a Markdown text without code and without the word list."""
    text = WORDS.sub("", markdown)
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return re.sub(r"`[^`]*`", "", text)


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each comment, docstring and message."""
    for node in ast.walk(ast.parse(source)):
        # strings without a space are keys and names, not sentences
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and " " in node.value
        ):
            yield node.lineno, re.sub(r"``?[^`]*``?", "", node.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def modules(name: str) -> list[Path]:
    """Return the files of a package or module below the source folder."""
    path = SOURCE / name
    found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    assert found, f"{name} has no modules"
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_follow_the_word_list(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert findings(prose(text) if name.endswith(".md") else text) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKED)
def test_source_texts_follow_the_word_list(name):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {finding}"
        for path in modules(name)
        for line, text in texts(path.read_text(encoding="utf-8"))
        for finding in findings(text)
    ]
    assert found == []


def test_word_list_has_at_least_forty_entries():
    assert len(LIST) >= 40


@pytest.mark.parametrize("phrase", LIST)
def test_each_forbidden_phrase_is_found(phrase):
    assert any(repr(phrase) in finding for finding in findings(f"It {phrase}\nnow."))


def test_allowed_phrases_are_not_found():
    assert findings("a held-out region; pixels are held out; the lock is held") == []


def test_code_in_documents_is_not_checked():
    assert findings(prose("Run `told`.\n\n```sh\necho told\n```\n")) == []


def test_comments_docstrings_and_messages_are_checked():
    source = '"""Told once."""\nx = "it was told"  # told\ny = "told"\n'
    assert [line for line, text in texts(source) if findings(text)] == [1, 2, 2]
