"""Writes the table of docs/methods.md from what make_checkpoints.py left.

python sample_data/methods_table.py [--scene FILE]

With --scene (DIR/world-unseen/images/900.tif), speed and memory of the sample
checkpoints are measured on it anew, each in a process of its own, on one core of the
CPU in float32: leave the machine alone meanwhile. What is not there yet gets a dash.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

from napari_uhrseg.models.registry import REGISTRY

HERE = Path(__file__).parent
ROWS = HERE / "rows"
DOCS = HERE.parent / "docs" / "methods.md"
START, END = "<!-- table: made by sample_data/methods_table.py -->", "<!-- end -->"
SEEDS = range(3)
MB = 1 << 20


def measure(checkpoint: Path, scene: Path) -> dict[str, float]:
    """Seconds, windows or frames, and peak memory of a run over the scene."""
    import psutil

    from napari_uhrseg.engine.device import MemoryBudget
    from napari_uhrseg.engine.events import Planned
    from napari_uhrseg.engine.segment import segment
    from napari_uhrseg.io.image import open_image
    from napari_uhrseg.io.labels import LabelStore
    from napari_uhrseg.models.checkpoint import load_checkpoint
    from napari_uhrseg.types import SegmentSettings

    loaded, image = load_checkpoint(checkpoint), open_image(scene)
    settings = SegmentSettings(device="cpu", precision="fp32", threads=1)
    budget = MemoryBudget("cpu", 4096 * MB, 1024 * MB)
    with LabelStore.create(None, image, loaded.card.legend) as store:
        before = psutil.Process().memory_info().rss
        events = segment(image, loaded, store, settings, budget)
        planned = next(events)
        assert isinstance(planned, Planned)
        start = time.perf_counter()
        for _ in events:
            pass
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return {
        "parameters": sum(p.numel() for p in loaded.model.parameters()),
        "windows_per_second": planned.plan.windows / seconds,
        "megapixels_per_second": image.shape[0] * image.shape[1] / seconds / 1e6,
        "peak_mb": peak / MB,
    }


def measured(method: str, scene: Path | None) -> dict[str, float]:
    """As `measure`, in a process of its own; kept beside the other rows."""
    row = ROWS / f"speed-{method}.json"
    if scene is not None:
        checkpoint = HERE / f"{method}.safetensors"
        command = [sys.executable, __file__, "--one", str(checkpoint), str(scene)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row.write_text(done.stdout)
    found: dict[str, float] = json.loads(row.read_text()) if row.exists() else {}
    return found


def scores(data: str, method: str) -> list[float]:
    """The mIoU of each seed that is done, in percent."""
    files = (ROWS / f"{data}-{method}-{seed}.json" for seed in SEEDS)
    return [100 * json.loads(f.read_text())["miou"] for f in files if f.exists()]


def cell(values: list[float]) -> str:
    if not values:
        return "-"
    each = " / ".join(f"{v:.1f}" for v in values)
    return f"**{mean(values):.1f}** ({each})" if len(values) > 1 else f"{values[0]:.1f}"


def table(scene: Path | None) -> str:
    head = (
        "method", "parameters, million", "world, mIoU (seeds)",
        "aerial scene 3, mIoU (seeds)", "glands, mIoU (seeds)",
        "windows or frames a second", "megapixels a second", "peak memory, MB",
    )  # fmt: skip
    lines = [head, ("---",) * len(head)]
    for name, entry in REGISTRY.items():
        fast: dict[str, Any] = measured(name, scene)
        numbers = (
            (f"{fast['parameters'] / 1e6:.2f}", f"{fast['windows_per_second']:.2f}",
             f"{fast['megapixels_per_second']:.2f}", f"{fast['peak_mb']:.0f}")
            if fast else ("-",) * 4
        )  # fmt: skip
        scored = [cell(scores(data, name)) for data in ("world", "aerial", "glands")]
        lines.append((entry.title, numbers[0], *scored, *numbers[1:]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--one", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one)))
        return
    text = DOCS.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    made = table(args.scene and args.scene.absolute())
    DOCS.write_text(f"{before}{START}\n\n{made}\n\n{END}{after}")


if __name__ == "__main__":
    main()
