"""Smart fill: the region around a point whose features are similar.

The features are those of the pixel classifier (``models/pixel_classifier.py``), which
are filters and the maps of a frozen encoder with ImageNet weights, and the colours.
They are averaged over superpixels, so that regions end at borders in the picture::

    work area -> features ------------------+
        |                                   +-> mean of each superpixel -> PCA
        +-----> superpixels ----------------+          |
                    +-> neighbours --------------------+-> connected similar ones

[choice] The settings are those with which most pixels of a class were right after one
click in it, on training scenes of tissue and of satellite images.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_uhrseg.engine.network.device import inference_mode
from napari_uhrseg.engine.selection.superpixels import Ints
from napari_uhrseg.engine.selection.work_area import Floats, Point, WorkArea
from napari_uhrseg.engine.training.initial_weights import EncoderStart, initial_network
from napari_uhrseg.models.base import PixelSegmenter
from napari_uhrseg.models.registry import LIVE_MODEL, REGISTRY, default_arguments
from napari_uhrseg.types import BoolMask, LabelClass, Legend

SAMPLES = 4  # pixels of each superpixel whose features are averaged
DIMENSIONS = 8  # of the mean features after the principal component analysis
FAR = 0.9  # quantile of the distances from a point that counts as 1
TILE, MARGIN = 512, 64  # pixels whose features are computed at a time, and around them
MULTIPLE = 32  # of a tile's sides: the coarsest stride of the features
CPU = torch.device("cpu")

Points = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FeatureRegions:
    """Superpixels of a work area with their features and neighbours.

    Parameters
    ----------
    segments
        (height, width) number of each pixel's superpixel; 0 is none.
    features
        (1 + superpixels, dimensions) float32. The mean squared distance of two is 1.
    neighbours
        (2, pairs) numbers of superpixels with a common border, the lower one first.
    steps
        (pairs,) float32: distance of the features of two neighbours.
    """

    segments: Ints
    features: Floats
    neighbours: Points
    steps: Floats


def feature_regions(area: WorkArea, segments: Ints) -> FeatureRegions:
    """Compute the features of superpixels. This takes some seconds.

    Parameters
    ----------
    area
        The work area; of its bands the first three are used.
    segments
        Its superpixels.
    """
    count = int(segments.max()) + 1
    one, other = pairs = _neighbours(segments)
    if count == 1:  # nothing but pixels without data
        return FeatureRegions(
            segments, np.zeros((1, 1), np.float32), pairs, np.zeros(0, np.float32)
        )
    found = _gathered(area.pixels, _samples(segments, count))
    means: Floats = found.reshape(count, SAMPLES, -1).mean(1)
    means[0] = means[1:].mean(0)  # of no superpixel
    reduced = _reduced(means, _mean_colors(area, segments))
    steps = np.linalg.norm(reduced[one] - reduced[other], axis=1)
    return FeatureRegions(segments, reduced, pairs, steps)


def select_similar(regions: FeatureRegions, at: Point, tolerance: float) -> BoolMask:
    """Return the connected superpixels around a point with similar features.

    A superpixel belongs to the region if a way leads to it whose steps are at most
    ``tolerance``. A step is the mean of the distance of its two superpixels and of
    their distance from the one at the point, so that a region ends at borders and also
    where the picture changes slowly.

    Parameters
    ----------
    regions
        Superpixels with their features.
    at
        Row and column of the point; one outside is moved to the border.
    tolerance
        Largest step, at least 0; 1 is the distance of superpixels that differ much
        from the one at the point (quantile of 0.9).

    Returns
    -------
    (height, width) bool
        The region.
    """
    height, width = regions.segments.shape
    y = min(max(round(at[0]), 0), height - 1)
    x = min(max(round(at[1]), 0), width - 1)
    start = int(regions.segments[y, x])
    if not start:
        return np.zeros((height, width), bool)
    away = np.linalg.norm(regions.features - regions.features[start], axis=1)
    one, other = regions.neighbours
    cost = (np.maximum(away[one], away[other]) + regions.steps) / 2
    cost /= np.quantile(away, FAR) + 1e-12
    passed = (cost <= tolerance) & (one > 0)
    shape = (len(away), len(away))
    links = np.ones(np.count_nonzero(passed), bool)
    graph = coo_array((links, (one[passed], other[passed])), shape)
    _, part = connected_components(graph, directed=False)
    chosen: BoolMask = (part == part[start]).take(regions.segments)
    return chosen


def _samples(segments: Ints, count: int) -> Points:
    """Return `SAMPLES` pixels spread over each superpixel, one after the other."""
    order = np.argsort(segments, axis=None, kind="stable")
    sizes = np.bincount(segments.ravel(), minlength=count)
    first = np.cumsum(sizes) - sizes
    share = (np.arange(SAMPLES) + 0.5) / SAMPLES
    index = first[:, None] + (share * sizes[:, None]).astype(np.int64)
    return np.stack(np.unravel_index(order[index.ravel()], segments.shape), 1)


def _gathered(pixels: Floats, at: Points) -> Floats:
    """Return the (n, features) features of (n, 2) pixels, tile by tile."""
    model, height, width = frozen_encoder(), *pixels.shape[:2]
    spec = model.spec
    colors = pixels[..., [0, 0, 0]] if pixels.shape[-1] < 3 else pixels[..., :3]
    sides = [(MARGIN, MARGIN + -n % MULTIPLE) for n in (height, width)]
    image = np.pad((colors - spec.mean) / spec.std, (*sides, (0, 0)), "reflect")
    found, numbers = list[Floats](), list[Points]()
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            tile = (at >= (y, x)) & (at < (y + TILE, x + TILE))
            inside = np.flatnonzero(np.all(tile, axis=1))
            part = image[y : y + TILE + 2 * MARGIN, x : x + TILE + 2 * MARGIN]
            tensor = torch.from_numpy(part.astype(np.float32)).permute(2, 0, 1)[None]
            places = torch.from_numpy(at[inside] - (y - MARGIN, x - MARGIN))
            with inference_mode(CPU, "fp32"):
                values = model.gather(model.features(tensor.contiguous()), places)
            found.append(values.numpy())
            numbers.append(inside)
    return np.concatenate(found)[np.argsort(np.concatenate(numbers))]


def _reduced(means: Floats, colors: Floats) -> Floats:
    """Return the principal components of standardised features, and the colours.

    Both have the same weight.
    """
    centred = (means - means.mean(0)) / (means.std(0) + 1e-6)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    parts = [_scaled(centred @ vectors[:, -DIMENSIONS:]), _scaled(colors)]
    return _scaled(np.concatenate(parts, 1))


def _scaled(features: Floats) -> Floats:
    """Return features with a mean squared distance of 1."""
    scale = np.sqrt(2 * features.var(0).sum()) + 1e-12
    found: Floats = (features / scale).astype(np.float32)
    return found


def _mean_colors(area: WorkArea, segments: Ints) -> Floats:
    """Return the mean colour of each superpixel."""
    owner = segments.ravel()
    sums = [
        np.bincount(owner, area.colors[..., band].ravel())
        for band in range(area.colors.shape[-1])
    ]
    found = np.stack(sums, 1) / np.maximum(np.bincount(owner), 1)[:, None]
    found[0] = found[1:].mean(0)  # of no superpixel
    return found.astype(np.float32)


def _neighbours(segments: Ints) -> Points:
    """Return the (2, pairs) superpixels with a common border, each pair once."""
    pairs = [
        np.stack([a.ravel(), b.ravel()])
        for a, b in (
            (segments[:-1], segments[1:]),
            (segments[:, :-1], segments[:, 1:]),
        )
    ]
    every = np.sort(np.concatenate(pairs, 1), axis=0).astype(np.int64)
    every = every[:, every[0] != every[1]]
    count = int(segments.max()) + 1
    keys = np.unique(every[0] * count + every[1])
    return np.stack([keys // count, keys % count])


@cache
def frozen_encoder() -> PixelSegmenter:
    """Return a pixel classifier with ImageNet weights, for its features."""
    arguments = {
        **default_arguments(LIVE_MODEL),
        **REGISTRY[LIVE_MODEL].first_arguments,
        "channels": 3,
    }
    legend = Legend((LabelClass(1, "any", "#000000"),))
    model = initial_network(LIVE_MODEL, arguments, legend, EncoderStart()).model.eval()
    assert isinstance(model, PixelSegmenter)
    return model
