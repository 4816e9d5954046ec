"""Array of a level in the axis order and dtype that napari displays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_uhrseg.io.image.chunk_cache import CachedSource
from napari_uhrseg.io.image.level_source import Array, LevelSource, OnError, Slices
from napari_uhrseg.io.image.pixel_reader import band_axis, sample_of

MIN_CHUNK_SIDE = 512  # px, so that dask has fewer and larger tasks


class DisplayArray:
    """Array of one level for napari, in which chunks that cannot be decoded are 0.

    Parameters
    ----------
    source
        Source of the level.
    source_axes
        One letter per axis of the source.
    axes
        One letter per axis of this array; ``…yxs`` for a colour image.
    samples
        Indices of the displayed samples, in order; None displays the source
        unchanged.
    limits
        Values of a colour image that are displayed as black and white; the image is
        then converted to uint8.
    on_error
        Function that receives the errors of decoding.
    """

    def __init__(
        self,
        source: LevelSource,
        source_axes: str,
        axes: str,
        *,
        samples: list[int] | None = None,
        limits: tuple[float, float] | None = None,
        on_error: OnError | None = None,
    ) -> None:
        self.source = source
        self.source_axes = source_axes
        self.axes = axes
        self.samples = samples
        self.limits = limits
        self.on_error = on_error
        band = band_axis(source_axes)
        self._letters = (
            source_axes if samples is None else source_axes.replace(band, "b")
        )
        # "b" is the axis of bands, "c" or "s" in the two names of axes
        shown = band_axis(axes) if samples is not None else ""
        self._wanted = axes.replace(shown, "b") if shown else axes
        size = dict(zip(self._letters, source.shape, strict=True))
        chunk = dict(zip(self._letters, source.chunks, strict=True))
        if samples is not None:
            size["b"] = chunk["b"] = len(samples)
        self.shape = tuple(size[a] for a in self._wanted)
        self.chunks = tuple(min(chunk[a], size[a]) for a in self._wanted)
        self.dtype = np.dtype(source.dtype if limits is None else np.uint8)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[(slice(None),) * self.ndim], dtype)

    def __getitem__(self, key: Any) -> Array:
        """Return the pixels of a basic numpy index: integers, slices, an ellipsis."""
        given = key if isinstance(key, tuple) else (key,)
        if Ellipsis in given:
            at = given.index(Ellipsis)
            rest = (slice(None),) * (self.ndim - len(given) + 1)
            given = (*given[:at], *rest, *given[at + 1 :])
        given = (*given, *(slice(None),) * (self.ndim - len(given)))
        whole = tuple(
            slice(int(k), int(k) + 1) if not isinstance(k, slice) else _forward(k, n)
            for k, n in zip(given, self.shape, strict=True)
        )
        found = self._read(whole)
        last = tuple(
            slice(None, None, k.step) if isinstance(k, slice) else 0 for k in given
        )
        return found[last]

    def _read(self, key: Slices) -> Array:
        if self.samples is None:
            return self._raw(key)
        wanted = dict(zip(self._wanted, key, strict=True))
        bands = wanted.pop("b", slice(None))
        picked = self._samples(wanted, self.samples[bands])
        picked = picked.transpose(self._order())
        if "b" not in self._wanted:
            return picked[..., 0]
        return picked if self.limits is None else self._bytes(picked)

    def _samples(self, wanted: dict[str, slice], samples: list[int]) -> Array:
        """Return samples in the order of the source's axes."""
        at = self._letters.index("b")
        both = zip(self._letters, self.source.shape, strict=True)
        key = tuple(wanted.get(a, slice(0, n)) for a, n in both)
        if self.source.chunks[at] > 1:
            return np.take(self._raw(key), samples, axis=at)
        # each sample has its own chunks, and the others are not decoded
        parts = [
            self._raw((*key[:at], slice(i, i + 1), *key[at + 1 :])) for i in samples
        ]
        return np.concatenate(parts, axis=at)

    def _raw(self, key: Slices) -> Array:
        if isinstance(self.source, CachedSource):
            return self.source.read(key, self.on_error or (lambda _: None))
        return self.source[key]

    def _bytes(self, colour: Array) -> Array:
        """Convert colours to uint8, and alpha to 0 or 255."""
        if self.limits is None:
            return colour
        low, high = self.limits
        if colour.dtype == np.uint8 and (low, high) == (0, 255):
            return colour
        scaled = (colour.astype(np.float32) - low) * (255 / (high - low))
        out: Array = np.clip(np.nan_to_num(scaled), 0, 255).astype(np.uint8)
        if out.shape[-1] == 4:
            out[..., 3] = np.where(colour[..., 3] > 0, 255, 0)
        return out

    def in_memory(self) -> Array | None:
        """Return a view of the numpy array of a level that is being filled, if any."""
        data = getattr(self.source, "data", None)
        if type(data) is not np.ndarray or self.samples is None:
            return data if type(data) is np.ndarray else None
        first, last = self.samples[0], self.samples[-1] + 1
        if self.samples != list(range(first, last)) or data.dtype != self.dtype:
            return None
        at = self._letters.index("b")
        part = data[(slice(None),) * at + (slice(first, last),)]
        view: Array = part.transpose(self._order())
        return view if "b" in self._wanted else view[..., 0]

    def _order(self) -> list[int]:
        """Return the displayed axes as source axes; an axis not displayed is last."""
        shown = self._wanted if "b" in self._wanted else self._wanted + "b"
        return [self._letters.index(a) for a in shown]

    def to_dask(self) -> Any:
        """Return a dask array of this level, which takes milliseconds for any size."""
        import dask.array as da

        chunks = tuple(
            min(n, c * max(1, MIN_CHUNK_SIDE // c)) if a in "yx" else c
            for a, c, n in zip(self.axes, self.chunks, self.shape, strict=True)
        )
        return da.from_array(
            self,
            chunks=chunks,
            name=False,
            asarray=True,
            fancy=False,
            meta=np.empty((0,) * self.ndim, self.dtype),
        )


def _forward(key: slice, length: int) -> slice:
    """Return the range of a slice with step 1; negative steps are not supported."""
    start, stop, _ = key.indices(length)
    return slice(start, max(start, stop))


def shown_samples(
    axis: str, rgb_bands: Sequence[int], count: int, alpha: int | None
) -> list[int] | None:
    """Return the displayed samples in order, or None for the unchanged source.

    Parameters
    ----------
    axis
        Letter of the axis of bands in the source; empty without one.
    rgb_bands
        Indices of the red, green and blue band; empty if it is not a colour image.
    count
        Number of bands.
    alpha
        Index of the sample that is opacity and not a band.
    """
    if not rgb_bands:
        every = [sample_of(i, alpha) for i in range(count)]
        return every if axis == "s" else None
    samples = [sample_of(band, alpha) for band in rgb_bands]
    return samples if alpha is None else [*samples, alpha]
