"""Outcomes of a campaign, the table that summarises them, and cases of our own."""

import re
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

CONSOLE = Console(width=120, soft_wrap=True)
SURVIVED = ("intact", "opened", "refused", "right", "fixed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one try.

    Attributes
    ----------
    part
        Part of the campaign, such as ``kills``.
    kind
        Operation or kind of file.
    case
        Number or name of the case; with the seed it determines the input.
    result
        One of `SURVIVED`, or the kind of the failure: ``wrong``, ``traceback``,
        ``crash``, ``hang``, ``memory``, ``escape``.
    text
        What failed; empty otherwise.
    """

    part: str
    kind: str
    case: int | str
    result: str
    text: str = ""

    @property
    def failed(self) -> bool:
        """True if this is a fault of the program."""
        return self.result not in SURVIVED

    @property
    def signature(self) -> tuple[str, ...]:
        """Part, kind and result, and the text without its numbers and names."""
        lines = [x for x in self.text.strip().splitlines() if x.strip(" ^~")]
        text = re.sub(r"[0-9]+|'[^']*'|/\S*", "#", " ".join(lines[-3:]))
        return self.part, self.kind, self.result, text

    def command(self, seed: int) -> str:
        """Return the command that repeats the case."""
        return (
            f"make campaign ONLY={self.part} KIND={self.kind} CASE={self.case} "
            f"SEED={seed}"
        )


def summary(outcomes: Iterable[Outcome]) -> Table:
    """Return a table with the number of tried, survived and failed cases per kind."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for outcome in outcomes:
        row = counts.setdefault((outcome.part, outcome.kind), Counter())
        row[outcome.result] += 1
    table = Table("part", "kind", "tried", "survived", "failed", "results")
    total = Counter[str]()
    for (part, kind), row in counts.items():
        table.add_row(part, kind, *_figures(row), _text(row))
        total += row
    table.add_section()
    table.add_row("all", "", *_figures(total), _text(total))
    return table


def show(text: str) -> None:
    """Print a line."""
    CONSOLE.print(Text(text))


def print_report(outcomes: list[Outcome], seed: int) -> None:
    """Print the table, and equal failures together with commands that repeat them."""
    CONSOLE.print(summary(outcomes))
    alike: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in filter(lambda o: o.failed, outcomes):
        alike.setdefault(outcome.signature, []).append(outcome)
    for found in alike.values():
        first = found[0]
        show(f"\n{len(found)} x {first.result} ({first.part}, {first.kind})")
        show(first.text.strip()[-600:])
        for outcome in found[:3]:
            show(f"    {outcome.command(seed)}")


def _figures(row: Counter[str]) -> tuple[str, str, str]:
    survived = sum(row[result] for result in SURVIVED)
    return str(row.total()), str(survived), str(row.total() - survived)


def _text(row: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in row.most_common())


# -- cases of our own -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """Small input after reports against another program, and a check.

    Attributes
    ----------
    program
        Program that the reports were about.
    name
        Name of the case.
    given, right
        What is tried, and the right result.
    check
        ``check(folder)`` makes the input and raises an error if the result is wrong.
    """

    program: str
    name: str
    given: str
    right: str
    check: Callable[[Path], None]


CASES: dict[str, Case] = {}


def case(program: str, given: str, right: str) -> Callable[[Callable], Callable]:
    """Register the decorated function as a case.

    Parameters
    ----------
    program
        Program that the reports were about.
    given, right
        What is tried, and the right result.
    """

    def register(check: Callable[[Path], None]) -> Callable[[Path], None]:
        name = check.__name__
        assert name not in CASES, name
        CASES[name] = Case(program, name, given, right, check)
        return check

    return register


def run_cases(kind: str, name: str) -> Iterator[Outcome]:
    """Run the cases and yield their outcomes.

    Parameters
    ----------
    kind
        Program that the reports were about; empty: all.
    name
        Name of one case; empty: all.
    """
    for found in CASES.values():
        if kind not in ("", found.program) or name not in ("", found.name):
            continue
        with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
            try:
                found.check(Path(folder))
                yield Outcome("cases", found.program, found.name, "right")
            # a missing error is no Exception for pytest
            except (Exception, pytest.fail.Exception):  # noqa: BLE001
                text = traceback.format_exc()
                yield Outcome("cases", found.program, found.name, "wrong", text)
