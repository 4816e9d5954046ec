"""Command line of the campaign.

``make campaign`` runs all parts with a new seed. ``ONLY``, ``KIND`` and ``CASE`` select
a part, a kind and a case; ``SEED`` repeats a campaign; ``KILLS``, ``INPUTS`` and
``MINUTES`` bound it. A failure is printed with the command that repeats it.
"""

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from campaign.disturbances import DISTURBANCES, Bench, disturb
from campaign.report import Outcome, print_report, run_cases, show

PARTS = ("", *DISTURBANCES, "inputs", "cases")


@dataclass(frozen=True)
class Options:
    """Options of a campaign; empty texts select everything."""

    only: str = ""
    kind: str = ""
    case: str = ""
    seed: int = field(default_factory=lambda: random.randrange(10**6))
    kills: int = 320
    inputs: int = 20_000
    minutes: float = 180.0

    @classmethod
    def read(cls, words: list[str]) -> Self:
        """Return the options of words ``NAME=VALUE``. Raises for unknown ones."""
        types = {f.name: f.type for f in fields(cls)}
        pairs = (word.partition("=")[::2] for word in words)
        found = cls(**{k.lower(): types[k.lower()](v) for k, v in pairs})
        PARTS.index(found.only)
        return found


def disturbed(chosen: Options, until: float) -> Iterator[Outcome]:
    """Yield the outcomes of all disturbed operations, those of every kind early."""
    from campaign.operations import OPERATIONS

    benches = []
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        for name in OPERATIONS:
            if chosen.kind not in ("", name):
                continue
            try:
                benches.append(Bench(name, Path(folder) / name))
            except AssertionError as error:
                yield Outcome("kills", name, 0, "wrong", f"undisturbed: {error}")
        # a case kills up to three times, twice in the mean
        share = chosen.kills / len(OPERATIONS)
        for part in DISTURBANCES:
            if chosen.only not in ("", part):
                continue
            count = int(-(-share // 2) if part == "kills" else -(-share // 4))
            for number in numbers(chosen, count):
                for bench in benches:
                    yield from disturb(part, bench, number, chosen.seed, until)


def numbers(chosen: Options, count: int) -> range:
    """Return the numbers of the cases to run."""
    if chosen.case:
        return range(int(chosen.case), int(chosen.case) + 1)
    return range(count)


def outcomes(chosen: Options, until: float) -> Iterator[Outcome]:
    """Yield the outcomes of the chosen parts."""
    if chosen.only in ("", "inputs"):
        from campaign.inputs import KINDS
        from campaign.pool import open_mutated

        kinds = [k for k in KINDS if chosen.kind in ("", k)]
        count = numbers(chosen, chosen.inputs // len(KINDS))
        yield from open_mutated(kinds, count, chosen.seed, until)
    if chosen.only in ("", *DISTURBANCES):
        yield from disturbed(chosen, until)
    if chosen.only in ("", "cases"):
        from campaign import cases_maps, cases_models, cases_vectors  # noqa: F401

        yield from run_cases(chosen.kind, chosen.case)


def main() -> int:
    """Run the campaign and print its report. Return 1 after a failure."""
    try:
        chosen = Options.read(sys.argv[1:])
    except (KeyError, ValueError, TypeError) as error:
        show(
            f"{error!r}. Options: {', '.join(f.name.upper() for f in fields(Options))}"
        )
        return 2
    show(f"seed {chosen.seed}")
    until, found = time.monotonic() + 60 * chosen.minutes, list[Outcome]()
    try:
        for outcome in outcomes(chosen, until):
            found.append(outcome)
            if outcome.failed:
                show(f"{outcome.result}: {outcome.command(chosen.seed)}")
    except KeyboardInterrupt:
        show("interrupted")
    print_report(found, chosen.seed)
    return int(any(outcome.failed for outcome in found))


if __name__ == "__main__":
    sys.exit(main())
