"""Corrections of a store as a source of samples, split by place.

::

    coarse correction level    where corrections are: nothing else is read
    points                     corrected pixels of a level that is fine enough, their
                               number bounded; windows are drawn around them
    places                     points nearer to each other than two windows see
    held out                   a fifth of the places; the others are learnt from
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skimage.measure import label as connected

from napari_uhrseg.engine.classmatch import ClassMatch
from napari_uhrseg.engine.samples import IGNORED, Drawn, Scene
from napari_uhrseg.io.image import Image
from napari_uhrseg.io.labels import CHUNK, LabelStore
from napari_uhrseg.io.levels import read
from napari_uhrseg.types import InputSpec, Labels, Legend, Roi

SECRET = 254
"""A corrected pixel of a held-out place: neither taught nor held to an old answer."""

READ = 1 << 26  # pixels of the correction that are looked at for points
KEPT = 20_000  # points of a class that are kept
HONEST = 4  # places; fewer say nothing about ground that was not learnt from
SHARE = 0.2  # of the places are held out
NEAREST = 32  # pixels that places are apart at least
ROUGHLY = 128  # pixels that a place's middle may move without being another

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Points:
    """Corrected pixels: (n, 2) int64 y and x in level-0 pixels, (n,) channel, place."""

    at: Ints
    channel: Ints
    place: Ints

    def __len__(self) -> int:
        return len(self.at)

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Points":
        return Points(self.at[chosen], self.channel[chosen], self.place[chosen])


@dataclass(frozen=True, slots=True)
class Places:
    """Where corrections lie together: a grid of cells, each with its place's number.

    ``side`` of a cell in level-0 pixels; ``number`` (rows, columns) int32, 0: none.
    Two places have a cell between them. ``apart``: whether that is as far as two
    windows see.
    """

    side: int
    number: npt.NDArray[np.int32]
    apart: bool

    @property
    def count(self) -> int:
        return int(self.number.max(initial=0))

    def of(self, roi: Roi) -> npt.NDArray[np.int32]:
        """The place of each pixel of a level-0 rectangle inside the image."""
        rows = np.arange(roi.y, roi.bottom) // self.side
        columns = np.arange(roi.x, roi.right) // self.side
        return self.number[np.ix_(rows, columns)]


@dataclass(frozen=True, slots=True)
class CorrectedPixels:
    """What is known of a part of the corrected ground, read when asked for.

    ``chosen`` are rectangles outside of which nothing counts (None: all does);
    ``asked`` and ``hidden`` hold for each place's number whether its pixels are given,
    and whether they are given as `SECRET`.
    """

    store: LabelStore
    channels: npt.NDArray[np.uint8]
    places: Places
    asked: npt.NDArray[np.bool_]
    hidden: npt.NDArray[np.bool_]
    chosen: tuple[Roi, ...] | None

    def read(self, roi: Roi) -> Labels:
        """As ``Target.read``."""
        found = np.full((roi.height, roi.width), IGNORED, np.uint8)
        inside = roi.intersect(Roi(0, 0, *self.store.shape))
        if not inside.area:
            return found
        known = self.channels[read(self.store.correction[0], inside.slices)]
        if (known != IGNORED).any():
            place = self.places.of(inside)
            secret = self.hidden[place] & (known != IGNORED)
            known[~self.asked[place] | ~_within(inside, self.chosen)] = IGNORED
            known[secret] = SECRET
        found[inside.shift(-roi.y, -roi.x).slices] = known
        return found


@dataclass(frozen=True, slots=True)
class Fed:
    """How an image is fed to a network; as in a run."""

    bands: tuple[int, ...]
    value_range: tuple[float, float]
    scale: float


class Corrected:
    """Windows around corrected pixels, every class and every place as it is due.

    Parameters
    ----------
    image, how
        The image, and the bands, values and scale it is fed with.
    store, match
        Whose corrections, and which channel their classes are.
    spec
        Of the model.
    seed
        Decides which places are held out where any would do.
    chosen
        Level-0 rectangles to learn from; None: all.
    splits
        Whether places are held out where there are enough.

    Attributes
    ----------
    held_windows
        In run pixels: what the held-out places are scored in.
    honest
        Whether places are held out.
    """

    balance = 1.0

    def __init__(
        self,
        image: Image,
        how: Fed,
        store: LabelStore,
        match: ClassMatch,
        spec: InputSpec,
        seed: int = 0,
        chosen: tuple[Roi, ...] | None = None,
        *,
        splits: bool = True,
    ) -> None:
        self.legend: Legend = match.legend
        self.merged = match.merged
        self.spec, self.scale = spec, how.scale
        self.places = find_places(store, sight(spec) * how.scale)
        points = find_points(store, match.channels, self.places)
        if chosen is not None:
            inside = [any(_holds(r, y, x) for r in chosen) for y, x in points.at]
            points = points.where(np.array(inside, bool))
        self.splits = splits
        held = np.zeros(self.places.count + 1, bool)
        if splits:
            held = hold_out(points, self.places.count, seed)
        self.honest = bool(held.any())
        taken = held[points.place]
        self.training, self.tested = points.where(~taken), points.where(taken)
        args = (store, match.channels, self.places)
        shown = CorrectedPixels(*args, ~held, held, chosen)
        tested = CorrectedPixels(*args, held, np.zeros_like(held), chosen)
        self.scene, self.held_scene = (
            Scene(image.name, image, t, how.bands, how.value_range, how.scale)
            for t in (shown, tested)
        )
        self.windows = self._cells(self.training)
        self.held_windows = [
            self._inside(
                Roi(y * spec.window, x * spec.window, spec.window, spec.window)
            )
            for y, x in np.unique(self._cells(self.tested)[:, 1:], axis=0).tolist()
        ]
        self._classes = [
            _Class.of(self.training.where(self.training.channel == k))
            for k in np.unique(self.training.channel)
        ]

    @property
    def held_out(self) -> Sequence[Scene]:
        return (self.held_scene,) if self.honest else ()

    @property
    def place_count(self) -> int:
        return len(np.unique(np.r_[self.training.place, self.tested.place]))

    def fitted(self, spec: InputSpec) -> "Corrected":
        """Itself: it was made for a model."""
        return self

    def draw(self, rng: np.random.Generator, window: int) -> Drawn:
        """A window around a corrected pixel: first its class, then its place."""
        of_class = self._classes[rng.integers(len(self._classes))]
        point = of_class.draw(rng) / self.scale
        y, x = (int(p - rng.integers(window)) for p in point)
        return Drawn(self.scene, self._inside(Roi(y, x, window, window)))

    def fingerprint(self) -> str:
        """Of the points and windows: equal where the same is learnt and scored."""
        found = hashlib.sha256()
        for points in (self.training, self.tested):
            for array in (points.at, points.channel, points.place):
                found.update(np.ascontiguousarray(array).tobytes())
        found.update(repr(self.held_windows).encode())
        return found.hexdigest()

    def _inside(self, window: Roi) -> Roi:
        """Moved into the image as far as it fits."""
        height, width = self.scene.shape
        y = min(max(0, window.y), max(0, height - window.height))
        x = min(max(0, window.x), max(0, width - window.width))
        return Roi(y, x, window.height, window.width)

    def _cells(self, points: Points) -> Ints:
        """Distinct (n, 3): channel, and row and column of a grid of windows."""
        cells = (points.at / self.scale).astype(np.int64) // self.spec.window
        return np.unique(np.c_[points.channel, cells], axis=0)


@dataclass(frozen=True, slots=True)
class _Class:
    """The points of a class, sorted by place; a place counts as its points' root."""

    at: Ints
    first: Ints
    count: Ints
    chance: npt.NDArray[np.float64]

    @classmethod
    def of(cls, points: Points) -> "_Class":
        order = np.argsort(points.place, kind="stable")
        _, first, count = np.unique(
            points.place[order], return_index=True, return_counts=True
        )
        chance = np.sqrt(count)
        return cls(points.at[order], first, count, chance / chance.sum())

    def draw(self, rng: np.random.Generator) -> Ints:
        place = rng.choice(len(self.first), p=self.chance)
        point: Ints = self.at[self.first[place] + rng.integers(self.count[place])]
        return point


def sight(spec: InputSpec) -> int:
    """Run pixels between two points whose windows see no ground in common."""
    extents = [
        spec.window if view.extent == "frame" else view.extent
        for view in spec.views.values()
    ]
    moved = any(view.off_centre for view in spec.views.values())
    return max(extents) + spec.window * (2 if moved else 1)


def find_places(store: LabelStore, wanted: float) -> Places:
    """The places of a store's corrections, ``wanted`` pixels apart if possible.

    Where that leaves fewer than `HONEST` of them, they may be closer. Reads the
    coarsest level only.
    """
    top = read(store.correction[-1], ...) != 0
    pixel = 2 ** (len(store.correction) - 1)
    ys, xs = np.nonzero(top)
    side = full = max(int(np.ceil(wanted)), pixel)
    while True:
        cells = np.zeros([-(-n // side) for n in store.shape], bool)
        for dy in (0, pixel - 1):
            for dx in (0, pixel - 1):
                rows = np.minimum((ys * pixel + dy) // side, cells.shape[0] - 1)
                columns = np.minimum((xs * pixel + dx) // side, cells.shape[1] - 1)
                cells[rows, columns] = True
        number = np.asarray(connected(cells, connectivity=2), np.int32)
        smaller = max(side // 2, min(NEAREST, full), pixel)
        if number.max(initial=0) >= HONEST or smaller == side:
            return Places(side, number, side == full)
        side = smaller


def find_points(
    store: LabelStore, channels: npt.NDArray[np.uint8], places: Places
) -> Points:
    """Corrected pixels that a window can be drawn around.

    Of the finest level that can be read without looking at more than `READ` pixels.
    Memory is bounded by `KEPT`, whatever the size of the image.
    """
    level = coarsest = len(store.correction) - 1
    top = np.nonzero(read(store.correction[-1], ...))
    chunks = _chunks(top, coarsest, level)
    while level:
        finer = _chunks(top, coarsest, level - 1)
        if len(finer) * CHUNK**2 > READ:
            break
        level, chunks = level - 1, finer
    found: dict[int, list[Ints]] = {}
    array = store.correction[level]
    for row, column in chunks.tolist():
        part = Roi(row * CHUNK, column * CHUNK, CHUNK, CHUNK)
        values = channels[read(array, part.slices)]
        for channel in np.unique(values[values != IGNORED]).tolist():
            at = np.argwhere(values == channel) + np.array((part.y, part.x))
            found.setdefault(channel, []).append(_thinned(at, KEPT // 4))
    kept = [_thinned(np.concatenate(found[k]), KEPT) for k in sorted(found)]
    if not kept:
        none = np.zeros(0, np.int64)
        return Points(np.zeros((0, 2), np.int64), none, none)
    whole = np.minimum(
        np.concatenate(kept) * 2**level + 2**level // 2, np.array(store.shape) - 1
    )
    rows, columns = (whole // places.side).T
    channel = np.repeat(sorted(found), [len(a) for a in kept]).astype(np.int64)
    return Points(whole, channel, places.number[rows, columns].astype(np.int64))


def hold_out(points: Points, count: int, seed: int) -> npt.NDArray[np.bool_]:
    """Which of the places 1 to ``count`` are held out; none where there are too few.

    No class is held out whole. Classes not held out yet go first; else what a
    place's position says, so that a place stays on its side while others are added.
    """
    held = np.zeros(count + 1, bool)
    there = np.unique(points.place)
    if len(there) < HONEST:
        return held
    has = np.zeros((count + 1, 256), bool)
    has[points.place, points.channel] = True
    wanted = max(1, round(SHARE * len(there)))

    def luck(place: int) -> bytes:
        y, x = points.at[points.place == place].mean(0) // ROUGHLY
        return hashlib.sha256(f"{seed} {y} {x}".encode()).digest()

    order = sorted(there.tolist(), key=luck)
    for _ in range(wanted):
        left = has[~held].sum(0)
        shown = has[held].any(0)
        free = [p for p in order if not held[p] and (left[has[p]] > 1).all()]
        if not free:
            break
        held[max(free, key=lambda p: int((has[p] & ~shown).sum()))] = True
    return held


def _chunks(top: tuple[Ints, ...], level: int, at: int) -> Ints:
    """(n, 2) chunks of level ``at`` under the pixels of a coarser level."""
    return np.unique(np.c_[top] * 2 ** (level - at) // CHUNK, axis=0)


def _thinned(points: Ints, most: int) -> Ints:
    """Evenly chosen ones, at most so many."""
    if len(points) <= most:
        return points
    return points[np.linspace(0, len(points) - 1, most).astype(np.int64)]


def _within(roi: Roi, chosen: tuple[Roi, ...] | None) -> npt.NDArray[np.bool_]:
    inside = np.full((roi.height, roi.width), chosen is None)
    for one in chosen or ():
        inside[one.intersect(roi).shift(-roi.y, -roi.x).slices] = True
    return inside


def _holds(roi: Roi, y: int, x: int) -> bool:
    return roi.contains(Roi(y, x, 1, 1))
