"""Compare the pixel classifier with other methods, from the same dabs.

bench_quick_classifier.py DIR [--grounds NAME ...] [--seeds N ...] [--tuning]
    [--networks NAME ...] [--convpaint PYTHON]

DIR has a folder of images and masks for each ground. A simulated user paints dabs in
the black squares of a chessboard; the mIoU is that of the white squares. In round 1,
the dabs are at random places of each class. In each later round, they are at the places
where most labels of the forest or the pixel classifier are wrong. All methods always
have the same dabs. Networks of the program are trained from scratch in round 1 and then
fine-tuned. napari-convpaint needs an environment of its own. It uses its Gaussian
features at three scales and CatBoost: its networks need a download, and the filters of
ilastik need a package that only conda has.

The views are of held-out scenes; with --tuning they are of training scenes, for the
choice of features and settings. A row is the mean of the views of a seed. Rows go to
tables/quick_classifier.csv, but not with --tuning.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import numpy.typing as npt
import torch
from measurements import TABLES, markdown, put_rows, read_rows
from PIL import Image
from simulated_user import UNKNOWN, Labels, worst_places
from stroke_methods import (
    PAINTED_FOR,
    Make,
    Method,
    Pixels,
    View,
    cpu_seconds,
    other_methods,
)

TABLE = "quick_classifier.csv"
KEYS = ("ground", "method", "seed", "round")
ROUNDS, DABS = 3, 8  # dabs of a class in a round
LEAST_SHARE = 0.01  # of the painted and of the tested squares, for a class to count


@dataclass(frozen=True)
class Data:
    """Images of a ground, and the views and dabs in them."""

    names: tuple[str, ...]  # file stems of the held-out images
    tuning: tuple[str, ...]  # file stems of training images
    suffix: str = "png"
    side: int = 512  # largest side of a view, pixels
    views: int = 1  # of a seed
    cell: int = 128  # side of a square of the chessboard, pixels
    radius: int = 4  # of a dab, pixels
    ignored: int = 255  # mask value


DATA = {
    "aerial": Data(("tile3",), ("tile1", "tile2", "tile4"), "jpg", ignored=5),
    "glands": Data(
        tuple(f"train_{n}" for n in range(69, 86)),
        tuple(f"train_{n}" for n in range(1, 69)),
    ),
    "vessels": Data(
        ("04_dr", "04_g", "04_h"), ("01_dr", "02_g", "03_h"), "jpg", radius=2
    ),
    "nuclei": Data(
        tuple(f"{n:03d}" for n in range(80, 105)),
        tuple(f"{n:03d}" for n in range(80)),
        views=4,
        cell=64,
        radius=2,
    ),
}


def views_of(folder: Path, data: Data, seed: int, tuning: bool) -> Iterator[View]:
    """Yield the views of a seed.

    Parameters
    ----------
    folder
        Has the folders ``images`` and ``masks``.
    data
        The ground.
    seed
        Of the places of the views. Several images are divided among the seeds.
    tuning
        If True, use training images.
    """
    names = data.tuning if tuning else data.names
    rng = np.random.default_rng(seed)
    for k in range(data.views):
        name = names[(seed * data.views + k) % len(names)]
        with Image.open(folder / "images" / f"{name}.{data.suffix}") as file:
            pixels = np.array(file.convert("RGB"))
        with Image.open(folder / "masks" / f"{name}.png") as file:
            mask = np.array(file).astype(np.int64)
        height, width = mask.shape
        inside = 0.15 if min(height, width) > 2 * data.side else 0  # not the border
        for _ in range(50):
            y, x = (
                int(rng.uniform(inside, 1 - inside) * max(0, n - data.side))
                for n in (height, width)
            )
            part = slice(y, y + data.side), slice(x, x + data.side)
            view = _view(pixels[part], mask[part], data)
            if view is not None:
                yield view
                break


def _view(pixels: Pixels, mask: npt.NDArray[np.int64], data: Data) -> View | None:
    """Return a view, or None if it has fewer than two classes."""
    rows, columns = (np.arange(n) // data.cell for n in mask.shape)
    painted = (rows[:, None] + columns) % 2 == 0
    counted = [
        value
        for value in np.unique(mask)
        if value != data.ignored
        and all((mask[p] == value).mean() >= LEAST_SHARE for p in (painted, ~painted))
    ]
    truth = np.zeros(mask.shape, np.uint8)
    for k, value in enumerate(counted, 1):
        truth[mask == value] = k
    return View(pixels, truth, painted) if len(counted) > 1 else None


def disc(
    truth: Labels, at: tuple[int, int], radius: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows and columns of a disc inside the view.

    Parameters
    ----------
    truth
        The classes of the view.
    at
        The centre.
    radius
        In pixels.
    """
    yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    near = yy**2 + xx**2 <= radius**2
    y, x = at[0] + yy[near], at[1] + xx[near]
    inside = (y >= 0) & (x >= 0) & (y < truth.shape[0]) & (x < truth.shape[1])
    return y[inside], x[inside]


def first_dabs(view: View, radius: int, seed: int) -> Labels:
    """Return dabs at random places of each class.

    Parameters
    ----------
    view
        The view.
    radius
        Of a dab, in pixels.
    seed
        Of the random numbers.
    """
    rng, given = np.random.default_rng(seed), np.zeros_like(view.truth)
    for k in range(1, int(view.truth.max()) + 1):
        there = np.argwhere((view.truth == k) & view.painted)
        for y, x in there[rng.integers(len(there), size=DABS)]:
            dab = disc(view.truth, (y, x), radius)
            same = (view.truth[dab] == k) & view.painted[dab]
            given[dab] = np.where(same, k, given[dab])
    return given


def further_dabs(
    view: View, given: Labels, found: Sequence[Labels], radius: int
) -> Labels:
    """Return the dabs, with further ones where labels of either method are wrong.

    Parameters
    ----------
    view
        The view.
    given
        The earlier dabs.
    found
        The labels of the methods.
    radius
        Of a dab, in pixels.
    """
    given, truth = given.copy(), view.truth
    either = np.logical_or.reduce([labels != truth for labels in found])
    wrong = either & view.painted & (truth != UNKNOWN) & (given == 0)
    for at in worst_places(wrong, DABS * int(truth.max()), radius):
        dab = disc(truth, at, radius)
        k = np.bincount(truth[dab][wrong[dab]]).argmax()
        given[dab] = np.where((truth[dab] == k) & view.painted[dab], k, given[dab])
    return given


def miou(found: Labels, view: View) -> float:
    """Return the mean IoU of the squares that are not painted."""
    tested = ~view.painted & (view.truth != UNKNOWN)
    a, b = found[tested], view.truth[tested]
    pairs = [(a == k, b == k) for k in range(1, int(b.max()) + 1)]
    return mean(float((x & y).sum() / (x | y).sum()) for x, y in pairs)


def rounds(
    view: View, radius: int, seed: int, others: dict[str, Make]
) -> Iterator[tuple[str, int, float, float]]:
    """Yield method, round, mIoU and CPU seconds of one view; features are in round 1.

    Parameters
    ----------
    view
        The view.
    radius
        Of a dab, in pixels.
    seed
        Of the first dabs.
    others
        Methods beside those whose wrong labels the user corrects.
    """
    given, setup = first_dabs(view, radius, seed), {}
    methods: dict[str, Method] = {}
    for name, make in (PAINTED_FOR | others).items():
        start = cpu_seconds()
        methods[name] = make(view)
        setup[name] = cpu_seconds() - start
    for number in range(1, ROUNDS + 1):
        found = {}
        for name, method in methods.items():
            start = cpu_seconds() - setup.pop(name, 0)
            found[name] = method.labels(given)
            spent = cpu_seconds() - start
            yield name, number, miou(found[name], view), spent
        given = further_dabs(view, given, [found[x] for x in PAINTED_FOR], radius)


def measure(
    folder: Path, ground: str, seed: int, tuning: bool, others: dict[str, Make]
) -> list[dict[str, object]]:
    """Return the rows of a ground and a seed.

    Parameters
    ----------
    folder
        Has a folder of each ground.
    ground
        A key of `DATA`.
    seed
        Of views and dabs.
    tuning
        If True, use training images.
    others
        Methods beside the forest and the pixel classifier.
    """
    data, found = DATA[ground], {}
    for k, view in enumerate(views_of(folder / ground, data, seed, tuning)):
        each = rounds(view, data.radius, 100 * seed + k, others)
        for name, number, value, seconds in each:
            found.setdefault((name, number), []).append((value, seconds))
    return [
        {"ground": ground, "method": name, "seed": seed, "round": number,
         "views": len(values), "miou": mean(v for v, _ in values),
         "cpu_seconds": round(mean(s for _, s in values), 2)}
        for (name, number), values in found.items()
    ]  # fmt: skip


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return the means of the seeds as Markdown."""
    lines, total = [], {}
    for ground in (*DATA, "mean"):
        for method in dict.fromkeys(row["method"] for row in rows):
            cells = []
            for number in range(1, ROUNDS + 1):
                own = [
                    row for row in rows
                    if row["ground"] == ground and row["method"] == method
                    and row["round"] == str(number)
                ]  # fmt: skip
                if ground == "mean":
                    cells.append(mean(total.get((method, number), [0])))
                elif own:
                    cells.append(100 * mean(float(row["miou"]) for row in own))
                    total.setdefault((method, number), []).append(cells[-1])
            if cells:
                lines.append([ground, method, *(f"{value:.1f}" for value in cells)])
    return markdown(["ground", "method", "round 1", "round 2", "round 3"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--grounds", nargs="+", default=[*DATA], choices=DATA)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--networks", nargs="*", default=[])
    parser.add_argument("--convpaint", type=Path, help="its Python interpreter")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    others = other_methods(args.networks, args.convpaint)
    measured = []
    for ground in args.grounds:
        for seed in args.seeds:
            rows = measure(args.folder, ground, seed, args.tuning, others)
            measured += [{k: str(v) for k, v in row.items()} for row in rows]
            for row in rows:
                print(row, flush=True)
            if not args.tuning:
                put_rows(TABLES / TABLE, rows, KEYS)
    print(table(measured if args.tuning else read_rows(TABLES / TABLE)))


if __name__ == "__main__":
    main()
