"""Check that texts of the window format numbers by the locale."""

import ast
import re
from pathlib import Path

import pytest

WINDOW = Path(__file__).parents[2] / "src" / "napari_uhrseg" / "ui"
NUMBERS = re.compile(r"[+,.\d]*[,.%fgeG][+,.\dfge%]*")


def formats(path: Path) -> list[str]:
    """Return the number formats of the f-strings of a module, with their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    specs = [
        (node.lineno, ast.unparse(node.format_spec)[2:-1])
        for node in ast.walk(tree)
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None
    ]
    return [f"{path.name}:{line}: {s}" for line, s in specs if NUMBERS.fullmatch(s)]


@pytest.mark.parametrize("folder", sorted({p.parent for p in WINDOW.rglob("*.py")}),
                         ids=lambda p: p.name)  # fmt: skip
def test_window_formats_numbers_with_formatted(folder):
    found = {text for path in sorted(folder.glob("*.py")) for text in formats(path)}
    # local() gets this text
    assert {t for t in found if not re.search(r"(picture_form|onnx).*: g$", t)} == set()
