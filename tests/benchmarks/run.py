"""Run benchmarks and print their tables: all, or those named: ``run.py window speed``.

``make bench`` calls it. No figure makes a benchmark fail. ``--image`` and
``--checkpoint`` replace the samples by other files, and ``--tiny`` runs every part once
on the smallest input: a check of the benchmarks, whose figures mean nothing.
"""

import argparse
import importlib
from pathlib import Path

from rich.console import Console

# the window first: torch must not be loaded before it (see ui/workers/import_torch.py)
ALL = (
    "panel", "window", "painting", "opening", "project", "tool_events", "speed",
    "learning", "precision", "monai", "seams", "glnet", "memory", "frame",
    "learnmemory", "growth", "cluster", "pipeline", "peers",
)  # fmt: skip


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", metavar="|".join(ALL))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tiny", action="store_true")
    chosen = parser.parse_args()
    console = Console(width=100)
    for name in chosen.which or ALL:
        if name not in ALL:
            parser.error(f"{name} is none of {', '.join(ALL)}")
        benchmark = importlib.import_module(f"bench_{name}")
        size = benchmark.TINY if chosen.tiny else benchmark.FULL
        console.print(benchmark.run(chosen.image, chosen.checkpoint, size))


if __name__ == "__main__":
    main()
