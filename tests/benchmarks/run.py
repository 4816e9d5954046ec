"""Benchmarks: ``make bench``, or some of them by name: ``run.py window speed``.

Not tests: they print tables and never fail on a figure. ``--image`` and
``--checkpoint`` take files of your own instead of the samples.
"""

import argparse
import importlib
from pathlib import Path

from rich.console import Console

# the window first: torch must not be loaded before it (see ui/workers/import_torch.py)
ALL = (
    "panel", "window", "painting", "opening", "speed", "learning", "precision", "monai",
    "seams", "glnet", "memory", "frame", "learnmemory", "growth", "cluster",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", metavar="|".join(ALL))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    chosen = parser.parse_args()
    console = Console(width=100)
    for name in chosen.which or ALL:
        if name not in ALL:
            parser.error(f"{name} is none of {', '.join(ALL)}")
        benchmark = importlib.import_module(f"bench_{name}")
        console.print(benchmark.run(chosen.image, chosen.checkpoint))


if __name__ == "__main__":
    main()
