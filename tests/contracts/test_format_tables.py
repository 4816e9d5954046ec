"""Check the tables of file formats in the documentation against the registries."""

import re
from pathlib import Path

from napari_uhrseg.io.export.registry import formats
from napari_uhrseg.io.readers.archive import ARCHIVES
from napari_uhrseg.io.readers.registry import readers, suffixes

ROOT = Path(__file__).parents[2]
Row = dict[str, str]


def table(file: str, heading: str) -> list[Row]:
    """Return the rows of the first table after a heading, by column."""
    text = (ROOT / file).read_text(encoding="utf-8")
    _, _, rest = text.partition(f"\n{heading}\n")
    lines = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)
    assert lines is not None
    head, _, *rows = (
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in lines.group().splitlines()
    )
    return [dict(zip(head, row, strict=True)) for row in rows]


def in_code(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def test_documentation_lists_the_suffixes_of_the_readers():
    rows = table("docs/how-to/image-formats.md", "## Supported image formats")
    listed = set().union(*(in_code(row["suffixes"]) for row in rows))
    assert listed == {*suffixes(), *ARCHIVES}


def test_architecture_names_the_modules_of_the_readers():
    rows = table("docs/architecture.md", "### Packages inside `io`")
    (row,) = (r for r in rows if r["package"] == "`io/readers/`")
    package = "napari_uhrseg.io.readers."
    modules = {
        reader.open.__module__.removeprefix(package).partition(".")[0]
        for reader in readers()
    }
    assert modules <= in_code(row["responsibility"])


def test_exporting_lists_the_formats():
    rows = table("docs/exporting.md", "## Formats")
    listed = {name: row for row in rows for name in in_code(row["format"])}
    assert listed.keys() == {f.name for f in formats()}
    offered = {name for name, row in listed.items() if in_code(row["Save as"])}
    assert offered >= {f.name for f in formats() if f.save_suffix}
