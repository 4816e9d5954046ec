"""Sliding-window inference over regions, without a store.

The windows of a region are run in full batches, and their logits are merged into
labels. `window_runner` does the same for a run with a store: it also shares windows
between blocks, shows previews and recovers from a lack of memory.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_uhrseg.engine.network.device import inference_mode
from napari_uhrseg.engine.network.pixel_batch import PixelBatch, ViewBuffers
from napari_uhrseg.engine.prefetch import DEPTH, Prefetcher
from napari_uhrseg.engine.tiling.window_grid import WindowGrid
from napari_uhrseg.engine.tiling.window_merge import (
    TiledLabels,
    WindowMerger,
    make_merger,
    window_weights,
)
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.types import InputSpec, Labels, Roi

LARGEST_BLOCK = 2048  # run pixels along a side
ReadWindows = Callable[[Sequence[Roi]], PixelBatch]
"""Return the pixels that a network sees of windows, which are given in run pixels."""


@dataclass(frozen=True, slots=True)
class TilingSettings:
    """Division of an image into windows or frames, and their computation.

    Attributes
    ----------
    overlap
        Run pixels that neighbouring windows share, or the width of a seam.
    batch_size
        Windows of a batch, at least 1.
    device
        Device of the forward passes.
    precision
        ``"fp32"``, ``"bf16"`` or ``"fp16"``.
    frame
        Side of the largest frame in run pixels, for models that work on frames.
    block
        Side of a region whose windows are merged at a time, in run pixels.
    ahead
        Batches or frames that are read ahead, at least 0. With 0 there is no other
        thread.
    """

    overlap: int
    batch_size: int
    device: torch.device
    precision: str
    frame: int | None = None
    block: int = LARGEST_BLOCK
    ahead: int = DEPTH

    @classmethod
    def of(
        cls, spec: InputSpec, batch_size: int, device: torch.device, precision: str
    ) -> "TilingSettings":
        """Return the settings that a model declares.

        Parameters
        ----------
        spec
            The model's inputs: they give the overlap and the frame.
        batch_size
            Windows of a batch, at least 1.
        device
            Device of the forward passes.
        precision
            ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        """
        return cls(spec.overlap, batch_size, device, precision, spec.frame)


def label_windows(
    model: Segmenter,
    grid: WindowGrid,
    regions: Iterable[Roi],
    read: ReadWindows,
    settings: TilingSettings,
) -> Iterator[tuple[Roi, tuple[Labels, Labels] | None]]:
    """Yield the labels of regions, one region after another.

    Memory is that of the logits of one region and of a few batches.

    Parameters
    ----------
    model
        The network in eval mode, on the device of the settings.
    grid
        The windows of the whole image.
    regions
        Rectangles of run pixels.
    read
        Returns the pixels of windows. It is called in another thread.
    settings
        Overlap, batch size, device, precision and read-ahead.

    Yields
    ------
    roi : Roi
        The region that runs.
    found : tuple of (h, w) uint8, or None
        Class indices (from 0) and confidence after the last batch of a region. None
        after each batch before, so that a caller can stop or report progress.
    """
    weights = window_weights(grid.side, settings.overlap, model.spec.merge)

    def batches() -> Iterator[tuple[Roi, Sequence[Roi], PixelBatch, bool]]:
        for region in regions:
            left = grid.count(region)
            for windows, batch in read_batches(
                list(grid.touching(region)), read, settings.batch_size
            ):
                left -= len(windows)
                yield region, windows, batch, left == 0

    merger: WindowMerger | TiledLabels | None = None
    buffers = ViewBuffers()
    with closing(Prefetcher(batches(), settings.ahead)) as items:
        for region, windows, batch, last in items:
            logits = forward_padded(model, batch, settings, buffers)
            with torch.inference_mode():
                if merger is None:
                    classes, device = logits.shape[1], settings.device
                    merger = make_merger(grid, region, classes, weights, device)
                merger.add(windows, logits)
                found = merger.finish() if last else None
            yield region, found
            merger = None if last else merger


def read_batches(
    windows: Sequence[Roi], read: ReadWindows, batch_size: int
) -> Iterator[tuple[Sequence[Roi], PixelBatch]]:
    """Yield windows with their pixels, a batch at a time.

    Parameters
    ----------
    windows
        Windows in run pixels.
    read
        Returns the pixels of windows.
    batch_size
        Windows of a batch, at least 1. The last batch may be smaller.
    """
    for first in range(0, len(windows), batch_size):
        some = windows[first : first + batch_size]
        yield some, read(some)


def forward_padded(
    model: Segmenter,
    batch: PixelBatch,
    settings: TilingSettings,
    buffers: ViewBuffers | None = None,
) -> Tensor:
    """Return the (N, K, h, w) logits of a batch, computed at the full batch size.

    Parameters
    ----------
    model
        The network in eval mode, on the device of the settings.
    batch
        N samples, at most ``settings.batch_size``.
    settings
        Batch size, device and precision.
    buffers
        Memory of earlier batches. None: fresh memory.
    """
    padded = pad_batch(batch, settings.batch_size, 0, len(batch))
    with inference_mode(settings.device, settings.precision):
        inputs = padded.normalized(settings.device, buffers)
        logits: Tensor = model(inputs)["logits"]
        return logits[: len(batch)]


def pad_batch(batch: PixelBatch, size: int, first: int, count: int) -> PixelBatch:
    """Return samples of a batch, padded with copies of the last one.

    All forward passes have one batch size: which kernels run, and so the bits of the
    logits, depends on it.

    Parameters
    ----------
    batch
        The samples.
    size
        Number of samples returned, at least ``count``.
    first
        Index of the first sample taken.
    count
        Number of samples taken, at least 1.
    """
    if count == size == len(batch):
        return batch
    return batch[torch.arange(size).clamp(max=count - 1) + first]
