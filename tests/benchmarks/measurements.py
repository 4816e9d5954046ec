"""Tables of measurements: CSV files with a header, and Markdown made of them.

The committed ones lie in ``tests/benchmarks/tables``. Columns are in snake_case, with
the unit in the name where there is one; an empty cell is a value that was not measured.
"""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

TABLES = Path(__file__).with_name("tables")
END = "<!-- end -->"  # of a table in the documentation

Row = Mapping[str, object]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, or none if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def put_rows(path: Path, rows: Sequence[Row], keys: Sequence[str]) -> None:
    """Add rows to a table and replace those with the same keys.

    The file is replaced as a whole, so that an interrupted process leaves the old one.
    Processes that write the same table wait for each other.

    Parameters
    ----------
    path
        The CSV file, which is created if it does not exist.
    rows
        The measurements, by column. New columns are added at the end.
    keys
        Columns that identify a measurement.
    """
    new = [{k: str(v) for k, v in row.items() if v is not None} for row in rows]
    replaced = {tuple(row[k] for k in keys) for row in new}
    with FileLock(f"{path}.lock"):
        old = read_rows(path)
        kept = [row for row in old if tuple(row[k] for k in keys) not in replaced]
        columns = dict.fromkeys(k for row in (*old, *new) for k in row)
        part = path.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*columns], lineterminator="\n")
            writer.writeheader()
            writer.writerows([*kept, *new])
        os.replace(part, path)


def find_row(rows: Sequence[Row], key: Row) -> Row | None:
    """Return the row with the values of the key, or None."""
    wanted = {k: str(v) for k, v in key.items()}
    return next((row for row in rows if wanted.items() <= row.items()), None)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put_table(path: Path, start: str, table: str) -> None:
    """Replace the table between the line ``start`` and the next ``END``.

    Parameters
    ----------
    path
        A Markdown file that has both lines.
    start
        The comment before the table.
    table
        The new table, as Markdown.
    """
    before, _, rest = path.read_text().partition(start)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{start}\n\n{table}\n\n{END}{after}")
