"""Write the table of docs/methods.md from the scores of make_checkpoints.py.

python tests/benchmarks/methods_table.py [--scene FILE]

With --scene (DIR/world-unseen/images/900.tif), speed and memory of the sample
checkpoints are measured on it first, each in a process of its own, on one core of the
CPU in float32. Nothing else should run on the machine meanwhile. A figure that was not
measured is a dash.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from statistics import mean

from common import MB, child, sample
from measurements import TABLES, Row, find_row, markdown, put_rows, put_table, read_rows

from napari_uhrseg.models.registry import REGISTRY

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"
START = "<!-- table: made by tests/benchmarks/methods_table.py -->"
SCORES, SPEED = "method_scores.csv", "method_speed.csv"
SEEDS = range(3)


def measure(checkpoint: Path, scene: Path) -> dict[str, float]:
    """Return the parameters, the speed and the peak memory of a run over the scene."""
    import psutil

    from napari_uhrseg.engine.events import Planned
    from napari_uhrseg.engine.inference.segment import segment
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.models.checkpoint import load_checkpoint
    from napari_uhrseg.types import SegmentSettings

    loaded, image = load_checkpoint(checkpoint), open_image(scene)
    settings = SegmentSettings(device="cpu", precision="fp32", threads=1, scale=1)
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
        "peak_memory_mib": peak / MB,
    }


def measure_in_process(tables: Path, method: str, scene: Path) -> None:
    """Run `measure` in a process of its own and put the row into the table.

    Parameters
    ----------
    tables
        The folder of the tables.
    method
        The name of a sample checkpoint.
    scene
        An image file.
    """
    checkpoint = sample(f"{method}.safetensors")
    found = child(__file__, "--one", str(checkpoint), str(scene))
    put_rows(tables / SPEED, [{"method": method, **found}], ["method"])


def cell(values: list[float]) -> str:
    """Return the mean in bold and each value in brackets."""
    if not values:
        return "-"
    each = " / ".join(f"{v:.1f}" for v in values)
    return f"**{mean(values):.1f}** ({each})" if len(values) > 1 else f"{values[0]:.1f}"


def speed_cells(row: Row | None) -> tuple[str, str, str, str]:
    """Return parameters, windows a second, megapixels a second and memory."""
    if row is None:
        return ("-",) * 4
    columns = "parameters", "windows_per_second", "megapixels_per_second"
    parameters, windows, megapixels = (float(row[name]) for name in columns)
    memory = float(row["peak_memory_mib"])
    return (
        f"{parameters / 1e6:.2f}", f"{windows:.2f}", f"{megapixels:.2f}",
        f"{memory:.0f}",
    )  # fmt: skip


def table(tables: Path) -> str:
    """Return the comparison of all registered methods as Markdown."""
    head = (
        "method", "parameters (million)", "world, mIoU (seeds)",
        "aerial scene 3, mIoU (seeds)", "glands, mIoU (seeds)",
        "windows/s or frames/s", "megapixels/s", "peak memory (MB)",
    )  # fmt: skip
    scores, speeds = read_rows(tables / SCORES), read_rows(tables / SPEED)
    lines = []
    for name, entry in REGISTRY.items():
        if name not in {row["method"] for row in scores}:
            continue  # trained from strokes: docs/finetuning.md compares it
        parameters, *rest = speed_cells(find_row(speeds, {"method": name}))
        cells = []
        for data in ("world", "aerial", "glands"):
            keys = ({"data": data, "method": name, "seed": seed, "steps_factor": 1.0}
                    for seed in SEEDS)  # fmt: skip
            found = [row for key in keys if (row := find_row(scores, key))]
            cells.append(cell([100 * float(row["miou"]) for row in found]))
        lines.append((entry.title, parameters, *cells, *rest))
    return markdown(head, lines)


def main() -> None:
    """Read the command line; measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--one", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one)))
        return
    for method in REGISTRY if args.scene else ():
        measure_in_process(TABLES, method, args.scene.absolute())
    put_table(DOCS, START, table(TABLES))


if __name__ == "__main__":
    main()
