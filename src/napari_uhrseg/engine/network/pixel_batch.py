"""Views in the data type of their image, which are normalised on the device.

A batch of an image with 8 bits takes a quarter of the memory of its float32 values, in
the queue of batches that are read ahead and on the way to the device.
"""

import math
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_uhrseg.models.base import Batch
from napari_uhrseg.types import InputSpec, ValueRange

Array = npt.NDArray[Any]


class ViewBuffers:
    """Memory of views, which is used again once no tensor refers to it.

    A system clears fresh memory page by page, which takes as long as normalising.
    There is never more memory than was used at once. Several threads may get and drop
    arrays.
    """

    def __init__(self) -> None:
        self._given: list[tuple[Array, weakref.ref[Array]]] = []
        self._most = 0  # bytes that were used at once
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Return the bytes of the memory, used or not."""
        return sum(memory.size for memory, _ in self._given)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Return an array of a shape and data type with arbitrary values.

        Its memory is used again when the array and all tensors made from it are gone;
        numpy's slices of it do not keep it.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        with self._lock:
            memory = self._take_unused(size)
            if memory is None:
                self._make_room(size)
                memory = np.empty(size, np.uint8)
            array = memory[:size].view(dtype).reshape(shape)
            self._given.append((memory, weakref.ref(array)))
        return array

    def _take_unused(self, size: int) -> Array | None:
        """Take the smallest unused memory of ``size`` to twice as many bytes."""
        unused = [
            (memory.size, i)
            for i, (memory, user) in enumerate(self._given)
            if user() is None and size <= memory.size <= 2 * size
        ]
        return self._given.pop(min(unused)[1])[0] if unused else None

    def _make_room(self, size: int) -> None:
        """Free unused memory, until there is room for new memory of so many bytes."""
        total = size + self.nbytes
        unused = [pair for pair in self._given if pair[1]() is None]
        used = total - sum(memory.size for memory, _ in unused)
        self._most = max(self._most, used)
        for memory, _ in unused:
            if total <= self._most:
                return
            self._given = [pair for pair in self._given if pair[0] is not memory]
            total -= memory.size


@dataclass(frozen=True, slots=True)
class PixelBatch:
    """Views of N windows or frames before normalisation.

    Attributes
    ----------
    views
        (N, height, width, C) values by view name, in the data type of the image.
    valid
        (N, height, width) bool by view name: False for pixels that become 0, the
        mean. A view whose pixels are all valid has no entry.
    boxes
        (N, 4) float32 as in `Batch`.
    spec
        Input specification of the network.
    value_range
        Image values that become 0 and 1 before mean and standard deviation.
    multiplied
        True if float32 cannot hold each value of the image's data type. The values
        are then float32 that have been multiplied with the factors of their channels.
    """

    views: dict[str, Tensor]
    valid: dict[str, Tensor]
    boxes: dict[str, Tensor]
    spec: InputSpec
    value_range: ValueRange
    multiplied: bool = False

    def __len__(self) -> int:
        """Return the number N of samples."""
        return len(next(iter(self.views.values())))

    def __getitem__(self, index: Tensor | slice) -> "PixelBatch":
        """Return a copy of samples by (n,) int64 numbers; a slice gives a view."""
        if isinstance(index, slice):
            return self._each(lambda tensor: tensor[index])
        # torch 2.6 cannot index 16-bit pixels by numbers
        numbers = index.numpy()
        return self._each(lambda tensor: torch.from_numpy(tensor.numpy()[numbers]))

    def normalized(
        self, device: torch.device, buffers: ViewBuffers | None = None
    ) -> Batch:
        """Return the normalised views on a device, channels last in memory.

        Each value is multiplied with a factor and reduced by an offset in float32, so
        all devices give the same bits.

        Parameters
        ----------
        device
            Device of the network. The pixels are copied to a CUDA device before they
            are normalised, and to other devices after that.
        buffers
            Memory of earlier batches in main memory. None: fresh memory.
        """
        buffers = buffers or ViewBuffers()
        there = self._each(lambda t: t.to(device)) if device.type == "cuda" else self
        views = {name: there._normalized(name, buffers) for name in self.views}
        return Batch(views, there.boxes).to(device)

    def _normalized(self, name: str, buffers: ViewBuffers) -> Tensor:
        """Return (N, C, height, width) float32 of a view, on its own device."""
        given, valid = self.views[name], self.valid.get(name)
        count, height, width, channels = given.shape
        on_cpu = given.device.type == "cpu"
        if on_cpu:
            out = torch.from_numpy(buffers.empty(given.shape, np.float32))
        else:
            out = torch.empty(given.shape, dtype=torch.float32, device=given.device)
        factors, offsets = row_factors(
            self.spec, self.value_range, width, given.device, self.multiplied
        )
        rows = (count, height, width * channels)  # all bands of a row: long loops
        # few calls: each may wait for the interpreter's lock
        out.view(rows).copy_(given.reshape(rows)).mul_(factors).sub_(offsets)
        if valid is not None:
            out.masked_fill_(~valid[..., None], 0)
        return out.permute(0, 3, 1, 2)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "PixelBatch":
        views, valid, boxes = (
            {name: change(tensor) for name, tensor in tensors.items()}
            for tensors in (self.views, self.valid, self.boxes)
        )
        return replace(self, views=views, valid=valid, boxes=boxes)


def concatenate_batches(batches: Sequence[PixelBatch]) -> PixelBatch:
    """Return one batch of all samples of an image; a single batch unchanged."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    names = {name for batch in batches for name in batch.valid}
    return replace(
        first,
        views={k: torch.cat([b.views[k] for b in batches]) for k in first.views},
        valid={k: torch.cat([_valid(b, k) for b in batches]) for k in names},
        boxes={k: torch.cat([b.boxes[k] for b in batches]) for k in first.boxes},
        multiplied=any(batch.multiplied for batch in batches),
    )


def _valid(batch: PixelBatch, name: str) -> Tensor:
    valid = batch.valid.get(name)
    if valid is None:
        return torch.ones(batch.views[name].shape[:3], dtype=torch.bool)
    return valid


def is_exact(dtype: npt.DTypeLike) -> bool:
    """Return whether float32 holds each value of a data type."""
    return np.result_type(np.dtype(dtype), np.float32) == np.float32


def row_factors(
    spec: InputSpec,
    value_range: ValueRange,
    width: int,
    device: torch.device | None = None,
    multiplied: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return what a row of values is multiplied with, and what is subtracted then.

    Parameters
    ----------
    spec
        Input specification, with mean and standard deviation of each channel.
    value_range
        Image values that become 0 and 1.
    width
        Pixels of the row.
    device
        Device of the results. None: the CPU.
    multiplied
        True if the values have been multiplied already. The factors are then 1.

    Returns
    -------
    factors, offsets : (width x C,) float32
    """
    values = tuple(np.ravel(value_range).tolist())
    place = str(device or "cpu")
    return _row_factors(
        tuple(spec.mean), tuple(spec.std), values, width, place, multiplied
    )


@lru_cache(16)
def _row_factors(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    values: tuple[float, ...],
    width: int,
    device: str,
    multiplied: bool,
) -> tuple[Tensor, Tensor]:
    low, high = np.array(values, np.float64).reshape(-1, 2).T
    centre, spread = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    span = np.where(high == low, 1, high - low)
    factor = (1 / span).astype(np.float32) / spread
    offset = centre / spread + low.astype(np.float32) * factor
    if multiplied:
        factor = np.ones_like(factor)
    row, less = (
        torch.from_numpy(np.tile(one, width)).to(device) for one in (factor, offset)
    )
    return row, less
