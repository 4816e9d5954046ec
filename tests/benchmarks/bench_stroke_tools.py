"""Count the strokes that a simulated user needs with and without the tools.

bench_stroke_tools.py DIR [--grounds NAME ...] [--seeds N ...] [--tuning]

DIR has a folder of images and masks for each ground. The user starts without labels and
knows the true classes. For each stroke, the user presses in the middle of the largest
region that is wrong, and gives it its class. The brush is as large as the region
allows, at most 80 pixels, and drawn straight for at most 200 pixels in the best of 8
directions; the edge brush in the same way. The drag of the wand and of smart fill ends
at the best of 13 tolerances, because the user sees the region. Of the tools of a set,
the user takes the one with the largest gain: right pixels after the stroke minus those
before.

The views are of held-out scenes; with --tuning they are of training scenes, for the
choice of the tools' settings. Rows go to tables/stroke_tools.csv, but not with
--tuning.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt
from bench_quick_classifier import DATA, views_of
from measurements import TABLES, markdown, put_rows, read_rows
from scipy.ndimage import distance_transform_edt, label
from stroke_methods import View

from napari_uhrseg.engine.selection.outline import stroke
from napari_uhrseg.engine.selection.work_area import WorkArea
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.correct.tools import edge_brush, smart_fill, wand
from napari_uhrseg.ui.correct.tools.tool import Gesture

TABLE = "stroke_tools.csv"
KEYS = ("ground", "tools", "seed")
SETS = {
    "brush": ("brush",),
    "edge brush": ("brush", "edge brush"),
    "wand": ("brush", "wand"),
    "smart fill": ("brush", "smart fill"),
    "all": ("brush", "edge brush", "wand", "smart fill"),
}
RIGHT = 0.9  # share of right pixels at which the user stops
STROKES = 60  # after which the user stops
LARGEST = 40.0  # radius of the brush in pixels
LENGTHS = (0, 50, 100, 200)  # of a stroke in pixels
TOLERANCES = 2.0 ** np.arange(-3, 3.1, 0.5)  # by the drag

Mask = npt.NDArray[np.bool_]
Point = tuple[float, float]
Candidates = Callable[[Point, float], Iterator[Mask]]


def strokes_of_brush(shape: tuple[int, int]) -> Candidates:
    """Return the function that yields the brush strokes from a point."""

    def candidates(at: Point, depth: float) -> Iterator[Mask]:
        for way, radius in _ways(at, depth):
            yield stroke(way, radius, shape)

    return candidates


def strokes_of_edge_brush(area: WorkArea) -> Candidates:
    """Return the function that yields the strokes of the edge brush from a point."""
    selector = edge_brush.EdgeBrush()
    prepared = selector.prepare(area)

    def candidates(at: Point, depth: float) -> Iterator[Mask]:
        for way, radius in _ways(at, depth):
            select = selector.begin(prepared, at)
            yield select(Gesture(way, radius, 1.0))[1]

    return candidates


def regions_of(
    selector: wand.Wand | smart_fill.SmartFill, area: WorkArea
) -> Candidates:
    """Return the function that yields the regions around a point by tolerance."""
    prepared = selector.prepare(area)

    def candidates(at: Point, depth: float) -> Iterator[Mask]:
        select = selector.begin(prepared, at)
        for tolerance in TOLERANCES:
            box, inside = select(Gesture((at,), 0.0, float(tolerance)))
            mask = np.zeros(area.shape, bool)
            mask[box.slices] = inside
            yield mask

    return candidates


def _ways(at: Point, depth: float) -> Iterator[tuple[tuple[Point, ...], float]]:
    """Yield straight ways of a brush, with the radius that fits and with half of it."""
    fits = max(1.0, min(depth, LARGEST))
    for radius in (fits, max(1.0, fits / 2)):
        for length in LENGTHS:
            for angle in np.arange(8) * np.pi / 4 if length else (0.0,):
                y, x = at[0] + length * np.sin(angle), at[1] + length * np.cos(angle)
                yield (at, (float(y), float(x))), radius


def aim(view: View, labels: npt.NDArray[np.uint8]) -> tuple[int, Point, float]:
    """Return the class and the middle of the largest wrong region, and its depth.

    Parameters
    ----------
    view
        The view with its true classes.
    labels
        The labels of the user.
    """
    largest, found = 0, np.zeros(labels.shape, bool)
    chosen = 0
    for k in range(1, int(view.truth.max()) + 1):
        parts, _ = label((view.truth == k) & (labels != k))
        sizes = np.bincount(parts.ravel())[1:]
        if len(sizes) and sizes.max() > largest:
            largest, chosen = int(sizes.max()), k
            found = parts == sizes.argmax() + 1
    depth = distance_transform_edt(np.pad(found, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return chosen, (float(y), float(x)), float(depth.max())


def label_view(view: View, tools: Sequence[Candidates]) -> list[int]:
    """Return the number of right pixels after each stroke, beginning with none.

    Parameters
    ----------
    view
        The view.
    tools
        Tools of which the user takes the best one for each stroke.
    """
    labels = np.zeros_like(view.truth)
    known = view.truth != 0
    right = [0]
    while right[-1] < RIGHT * known.sum() and len(right) <= STROKES:
        k, at, depth = aim(view, labels)
        worth = np.where(view.truth == k, 1, -1) * known * (labels != k)
        worth[(view.truth != k) & (labels != view.truth)] = 0  # wrong before and after
        masks = [mask for tool in tools for mask in tool(at, depth)]
        gains = [int(worth[mask].sum()) for mask in masks]
        labels[masks[int(np.argmax(gains))]] = k
        right.append(int(((labels == view.truth) & known).sum()))
    return right


def measure(
    folder: Path, ground: str, seed: int, tuning: bool
) -> list[dict[str, object]]:
    """Return the rows of a ground and a seed.

    Parameters
    ----------
    folder
        Has a folder of each ground.
    ground
        A key of `DATA`.
    seed
        Of the places of the views.
    tuning
        If True, use training images.
    """
    found = []
    for view in views_of(folder / ground, DATA[ground], seed, tuning):
        shape = view.truth.shape
        pixels = (view.pixels / 255).astype(np.float32)
        area = WorkArea(Roi(0, 0, *shape), 0, pixels, np.ones(shape, bool))
        tools = {
            "brush": strokes_of_brush(shape),
            "edge brush": strokes_of_edge_brush(area),
            "wand": regions_of(wand.Wand(), area),
            "smart fill": regions_of(smart_fill.SmartFill(), area),
        }
        for name, members in SETS.items():
            right = label_view(view, [tools[member] for member in members])
            count = len(right) - 1
            found.append({
                "ground": ground, "tools": name, "seed": seed, "strokes": count,
                "reached": int(right[-1] >= RIGHT * (view.truth != 0).sum()),
                "right_pixels_per_stroke": round(right[-1] / count),
            })  # fmt: skip
    return found


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the means of the views as Markdown."""
    lines = []
    for ground in DATA:
        for name in SETS:
            own = [r for r in rows if r["ground"] == ground and r["tools"] == name]
            if own:
                strokes = mean(float(row["strokes"]) for row in own)
                right = mean(float(row["right_pixels_per_stroke"]) for row in own)
                reached = sum(int(row["reached"]) for row in own)
                title = name if name in ("brush", "all") else f"brush and {name}"
                lines.append([ground, title, f"{strokes:.1f}", f"{right:,.0f}",
                              f"{reached} of {len(own)}"])  # fmt: skip
    return markdown(
        [
            "ground",
            "tools",
            "strokes",
            "right pixels per stroke",
            "views that reach it",
        ],
        lines,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--grounds", nargs="+", default=["glands", "aerial"], choices=DATA
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--tuning", action="store_true")
    args = parser.parse_args(arguments)
    measured = []
    for ground in args.grounds:
        for seed in args.seeds:
            rows = measure(args.folder, ground, seed, args.tuning)
            measured += [{k: str(v) for k, v in row.items()} for row in rows]
            for row in rows:
                print(row, flush=True)
            if not args.tuning:
                put_rows(TABLES / TABLE, rows, KEYS)
    print(table(measured if args.tuning else read_rows(TABLES / TABLE)))


if __name__ == "__main__":
    main()
