"""Trainer of a pixel classifier, whose features are cached between trainings.

::

    view of each window with strokes -> features, cached
    features of the painted pixels   -> linear classifier (logistic regression, L-BFGS)
    cached features of a window      -> labels of what is in view
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_uhrseg.engine.data.correction_sites import Ints, Points, sampled
from napari_uhrseg.engine.data.scenes import Scene
from napari_uhrseg.engine.network.device import inference_mode
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.engine.tiling.window_merge import make_merger, window_weights
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.add_classes import with_more_classes
from napari_uhrseg.models.base import PixelSegmenter
from napari_uhrseg.models.checkpoint import UNSAVED_HASH, Checkpoint
from napari_uhrseg.types import Labels, Legend, Roi

POINTS_PER_CLASS = 2000  # painted pixels of a class that are used
CHANGE_PENALTY = 1e-3  # of the squared change of trained weights
NEW_PENALTY = 1e-1  # of the squared weights of a new classifier
FINE_SHARE = 0.4  # of the classifier on fine features in a new classifier
ITERATIONS = 40  # of L-BFGS
CACHE_BYTES = 2**30  # of feature maps; some 70 MB for a window of 512 pixels
CPU = torch.device("cpu")


class PixelTrainer:
    """Pixel classifier of an image that is trained again after each stroke.

    Feature maps of windows are cached in ``cache_bytes``, of which the memory budget of
    the caller must have room beside one forward pass. At least one window is cached.
    Features of painted pixels are cached for twice `POINTS_PER_CLASS` pixels of each
    class (7 MB a class). The least recently used ones are discarded. One worker thread
    at a time may call the methods.

    Parameters
    ----------
    scene
        The image, fitted to the model (:meth:`Scene.fitted`).
    model
        The network in eval mode; its classifier is changed.
    starts
        True for a network without trained weights: features are standardised with the
        first strokes, and the classifier starts from 0. Otherwise the change of the
        trained classifier is penalised.
    cache_bytes
        Memory for feature maps in bytes.
    """

    def __init__(
        self,
        scene: Scene,
        model: PixelSegmenter,
        *,
        starts: bool = True,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.scene, self.model = scene, model
        spec = model.spec
        self.grid = WindowGrid.make(
            scene.shape, spec.window, spec.window_overlap, spec.placement
        )
        self._starts, self._cache_bytes = starts, cache_bytes
        self._maps: OrderedDict[Roi, list[Tensor]] = OrderedDict()
        self._known: OrderedDict[tuple[int, int], Tensor] = OrderedDict()  # by pixel
        self._most_known = 2 * POINTS_PER_CLASS * len(model.bias)
        self._start = model.weights(), model.bias.detach().clone()

    def compute(self, windows: Sequence[Roi]) -> Iterator[int]:
        """Compute the features of windows of the grid; yield how many remain."""
        for done, window in enumerate(windows, 1):
            self._features(window)
            yield len(windows) - done

    def fit(self, at: Ints, channel: Ints) -> None:
        """Train the classifier on painted pixels.

        Only pixels that were not passed before need new features.

        Parameters
        ----------
        at
            (n, 2) int64 rows and columns in run pixels, inside the image.
        channel
            (n,) int64 class of each pixel, as an index of the legend.
        """
        at, channel = balanced(at, channel)
        self.fit_features(self.gather(at), channel)

    def fit_features(self, features: Tensor, channel: Ints) -> None:
        """Train the classifier on features of painted pixels, of any images.

        Parameters
        ----------
        features
            (n, features) float32 features of `gather`.
        channel
            (n,) int64 class of each pixel, as an index of the legend.
        """
        if self._starts:
            found = self._fit_first(features, torch.from_numpy(channel))
        else:
            features = self._standardised(features)
            found = fit_linear(features, torch.from_numpy(channel), *self._start)
        self.model.set_weights(*found)

    def _fit_first(self, features: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of a new classifier; set its statistics."""
        mean, scale = _statistics(features)
        self.model.set_statistics(mean, scale)
        classes, fine = len(self.model.bias), self.model.fine
        return _fit_new((features - mean) / scale, channel, classes, fine)

    def gather(self, at: Ints) -> Tensor:
        """Return the (n, features) features of (n, 2) run pixels, not standardised."""
        for _ in self.gathering(at):
            pass
        found = torch.stack([self._known[y, x] for y, x in at.tolist()])
        for y, x in at.tolist():
            self._known.move_to_end((y, x))
        while len(self._known) > max(len(at), self._most_known):
            self._known.popitem(last=False)
        return found

    def gathering(self, at: Ints) -> Iterator[tuple[int, int]]:
        """Compute the features of pixels; yield finished windows and their number."""
        missing = np.array([p for p in at.tolist() if tuple(p) not in self._known])
        found: dict[Roi, list[list[int]]] = {}
        for y, x in missing.tolist():
            window = next(self.grid.touching(Roi(y, x, 1, 1)))
            found.setdefault(window, []).append([y, x])
        for done, (window, pixels) in enumerate(found.items(), 1):
            margin = (self.model.spec.views["local"].side - window.height) // 2
            corner = np.array([window.y - margin, window.x - margin])
            places = torch.from_numpy(np.array(pixels) - corner)
            with inference_mode(CPU, "fp32"):
                values = self.model.gather(self._features(window), places)
            for pixel, value in zip(pixels, values, strict=True):
                self._known[pixel[0], pixel[1]] = value.clone()
            yield done, len(found)

    def predict(self, region: Roi) -> tuple[Labels, Labels]:
        """Return the labels of a region, which are those of a run.

        Rounding decides where two classes are equally likely, and may differ.

        Parameters
        ----------
        region
            Rectangle of run pixels inside the image.

        Returns
        -------
        tuple of (h, w) uint8
            Class indices (from 0) and confidence (1 to 255).
        """
        spec = self.model.spec
        weights = window_weights(spec.window, spec.window_overlap, spec.merge)
        classes = len(self.model.bias)
        with inference_mode(CPU, "fp32"):
            merger = make_merger(self.grid, region, classes, weights, CPU)
            for window in self.grid.touching(region):
                logits = self.model.classify(self._features(window))
                merger.add([window], logits)
            return merger.finish()

    def nearest(self, region: Roi) -> list[Roi]:
        """Return the windows of a region, nearest to its middle first.

        They are as many as the cache contains beside one window for strokes elsewhere.
        If no features are cached, those of the first window are computed.
        """
        y, x = region.y + region.height / 2, region.x + region.width / 2
        windows = sorted(self.grid.touching(region), key=lambda w: _distance(w, y, x))
        maps = next(iter(self._maps.values()), None) or self._features(windows[0])
        size = sum(t.nbytes for t in maps)
        return windows[: max(1, self._cache_bytes // size - 1)]

    def labels(
        self, windows: Sequence[Roi], first: tuple[float, float]
    ) -> Iterator[tuple[Roi, Labels]]:
        """Yield class indices (from 0) of windows, and where they are in run pixels.

        Windows with cached features come first, then those near ``first``. A part that
        later windows overlap is yielded again. At the end, all pixels have the labels
        of a run, unless another window overlaps them.

        Parameters
        ----------
        windows
            Windows of the grid.
        first
            Row and column in run pixels.
        """
        spec, whole = self.model.spec, Roi(0, 0, *self.scene.shape)
        weights = window_weights(spec.window, spec.window_overlap, spec.merge)
        known: dict[Roi, Tensor] = {}
        for window in sorted(
            windows, key=lambda w: (w not in self._maps, _distance(w, *first))
        ):
            maps, part = self._features(window), window.intersect(whole)
            with inference_mode(CPU, "fp32"):
                known[window] = self.model.classify(maps)
                merger = make_merger(
                    self.grid, part, len(self.model.bias), weights, CPU
                )
                for near in self.grid.touching(part):
                    if near in known:
                        merger.add([near], known[near])
                found, _ = merger.finish()
            yield part, found

    def _features(self, window: Roi) -> list[Tensor]:
        maps = self._maps.pop(window, None)
        if maps is None:
            batch = self.scene.inputs([window], self.model.spec)
            with inference_mode(CPU, "fp32"):
                maps = self.model.features(batch.views["local"])
        self._maps[window] = maps
        size = sum(t.nbytes for t in maps)
        while len(self._maps) > 1 and len(self._maps) * size > self._cache_bytes:
            self._maps.popitem(last=False)
        return maps

    def _standardised(self, features: Tensor) -> Tensor:
        mean, scale = self.model.statistics()
        return (features - mean) / scale


def fit_linear(
    features: Tensor,
    channel: Tensor,
    weights: Tensor,
    bias: Tensor,
    penalty: float = CHANGE_PENALTY,
) -> tuple[Tensor, Tensor]:
    """Return a multinomial logistic regression: balanced classes, L2 penalty, L-BFGS.

    Parameters
    ----------
    features
        (n, F) float32, standardised.
    channel
        (n,) int64 classes, 0 to K - 1.
    weights, bias
        (K, F) and (K,) start, whose change is penalised.
    penalty
        Factor of the squared change of the weights, above 0.

    Returns
    -------
    tuple of Tensor
        (K, F) weights and (K,) biases.
    """
    counts = torch.bincount(channel, minlength=len(bias)).float()
    share = len(channel) / (counts.clamp(min=1) * (counts > 0).sum())
    first, own = weights.clone(), weights.clone().requires_grad_()
    offset = bias.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [own, offset], max_iter=ITERATIONS, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = features @ own.T + offset
        loss = F.cross_entropy(logits, channel, weight=share)
        loss = loss + penalty * (own - first).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.inference_mode(mode=False), torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return own.detach(), offset.detach()


def _fit_new(
    features: Tensor, channel: Tensor, classes: int, fine: int
) -> tuple[Tensor, Tensor]:
    """Return a new classifier: the weighted mean of two logistic regressions.

    One has all features and the other only the fine ones. With few strokes, the many
    features of the encoder outweigh the colour of small objects. The mean of linear
    classifiers is a linear classifier.

    Parameters
    ----------
    features
        (n, F) float32, standardised.
    channel
        (n,) int64 classes, 0 to ``classes`` - 1.
    classes
        Number of classes.
    fine
        Number of fine features, which are the first ones.

    Returns
    -------
    tuple of Tensor
        (``classes``, F) weights and (``classes``,) biases.
    """
    start = torch.zeros(classes, features.shape[1]), torch.zeros(classes)
    weights, bias = fit_linear(features, channel, *start, NEW_PENALTY)
    start = torch.zeros(classes, fine), torch.zeros(classes)
    of_fine, bias_of_fine = fit_linear(features[:, :fine], channel, *start, NEW_PENALTY)
    of_fine = F.pad(of_fine, (0, features.shape[1] - fine))
    return (
        torch.lerp(weights, of_fine, FINE_SHARE),
        torch.lerp(bias, bias_of_fine, FINE_SHARE),
    )


def trainer_of(
    image: Image,
    checkpoint: Checkpoint,
    legend: Legend | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> PixelTrainer:
    """Return the trainer of an image for a checkpoint, which is not changed.

    Parameters
    ----------
    image
        The image that is painted on.
    checkpoint
        A pixel classifier.
    legend
        Classes of the trained model, which begin with those of the card; ``None``:
        those of the card.
    cache_bytes
        Memory for feature maps in bytes.
    """
    model = copy.deepcopy(checkpoint.model).eval()
    if legend is not None and len(legend) > len(checkpoint.card.legend):
        model = with_more_classes(model, checkpoint.card, legend)
    assert isinstance(model, PixelSegmenter)
    scene = Scene(image.name, image, _NoTarget()).fitted(model.spec)
    starts = checkpoint.hash == UNSAVED_HASH
    return PixelTrainer(scene, model, starts=starts, cache_bytes=cache_bytes)


class _NoTarget:
    """Ground truth of an image without one."""

    def read(self, roi: Roi) -> Labels:
        return np.full((roi.height, roi.width), 255, np.uint8)


def run_pixels(points: Points, scene: Scene) -> tuple[Ints, Ints]:
    """Return the run pixels of points, and their channels."""
    most = np.array(scene.shape) - 1
    at = np.minimum((points.at / scene.scale).astype(np.int64), most)
    return at, points.channel


def balanced(
    at: Ints, channel: Ints, most: int = POINTS_PER_CLASS
) -> tuple[Ints, Ints]:
    """Return at most ``most`` pixels of each class, chosen by `sampled`.

    Parameters
    ----------
    at
        (n, 2) int64 rows and columns of pixels.
    channel
        (n,) int64 class of each pixel.
    most
        Number of pixels of a class, at least 1.
    """
    classes = np.unique(channel)
    kept = [sampled(at[channel == k], most) for k in classes]
    counts = [len(some) for some in kept]
    return np.concatenate([at[:0], *kept]), np.repeat(classes, counts)


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the deviation of features; the latter is above 0."""
    least = 1e-4 * features.abs().amax(0) + 1e-6
    return features.mean(0), features.std(0, correction=0) + least


def _distance(window: Roi, y: float, x: float) -> float:
    """Return the distance of a window's middle from a point."""
    return math.hypot(window.y + window.height / 2 - y, window.x + window.width / 2 - x)
