"""Scene: an image with its ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from napari_uhrseg.engine.data.decoded_image import DecodedImage
from napari_uhrseg.engine.network.inputs import read_pixels
from napari_uhrseg.engine.network.pixel_batch import PixelBatch
from napari_uhrseg.engine.planning.image_fit import fit_bands, fit_scale, fit_values
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.base import Batch
from napari_uhrseg.types import InputSpec, Labels, Roi, ValueRange

if TYPE_CHECKING:
    from napari_uhrseg.engine.data.correction_sites import Points


class GroundTruth(Protocol):
    """Interface of the known labels of a scene."""

    def read(self, roi: Roi) -> Labels:
        """Return (h, w) uint8 class indices from 0; 255: unknown or outside."""


@runtime_checkable
class SparseTruth(GroundTruth, Protocol):
    """Interface of known labels in small parts of a scene."""

    def covers(self, roi: Roi) -> bool:
        """Return False if no pixel of a level-0 rectangle has a label."""

    def points(self) -> "Points":
        """Return labelled pixels of each class; their number is bounded."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Image with its ground truth.

    Parameters
    ----------
    name
        Name of the scene, unique within a data set.
    image
        The image: its size, bands and pixels.
    target
        The ground truth in level-0 pixels.
    bands, value_range
        Bands and value range as in `read_pixels`; :meth:`fitted` chooses missing ones.
    scale
        Level-0 pixels per run pixel.
    decoded
        Decoded pixels in memory; ``None``: pixels are read from the file as needed.
    """

    name: str
    image: Image
    target: GroundTruth
    bands: tuple[int, ...] = ()
    value_range: ValueRange | None = None
    scale: float = 1.0
    decoded: DecodedImage | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in run pixels."""
        height, width = (max(1, round(n / self.scale)) for n in self.image.shape)
        return height, width

    def fitted(self, spec: InputSpec) -> "Scene":
        """Return the scene with bands, value range and scale fitted to a model."""
        bands = fit_bands(self.image, spec.channels, self.bands or None)
        scale = fit_scale(self.image, spec)[0] if self.scale == 1 else self.scale
        values = fit_values(self.image, spec, bands, self.value_range)
        return replace(self, bands=bands, value_range=values, scale=scale)

    def inputs(
        self,
        windows: Sequence[Roi],
        spec: InputSpec,
        shift: tuple[int, int] = (0, 0),
    ) -> Batch:
        """Return the normalised views of windows; the scene must be fitted.

        Parameters
        ----------
        windows
            Rectangles of run pixels.
        spec
            Inputs of the model.
        shift
            Run pixels, y and x, by which views that may be off centre are moved.
        """
        return self.pixels(windows, spec, shift).normalized(torch.device("cpu"))

    def pixels(
        self,
        windows: Sequence[Roi],
        spec: InputSpec,
        shift: tuple[int, int] = (0, 0),
    ) -> PixelBatch:
        """Return the views of windows before normalisation; the scene must be fitted.

        Parameters
        ----------
        windows, spec, shift
            As for :meth:`inputs`.
        """
        assert self.value_range is not None
        return read_pixels(
            self.decoded or self.image,
            windows,
            spec,
            bands=self.bands,
            value_range=self.value_range,
            scale=self.scale,
            shift=shift,
        )

    def has_labels(self, window: Roi) -> bool:
        """Return False if sparse labels have none in a rectangle of run pixels."""
        if not isinstance(self.target, SparseTruth):
            return True
        y, x = (int(n * self.scale) for n in (window.y, window.x))
        height, width = (
            round(n * self.scale) + 1 for n in (window.height, window.width)
        )
        return self.target.covers(Roi(y, x, height, width))

    def labels(self, window: Roi) -> Labels:
        """Return class indices of a rectangle of run pixels, nearest if scaled."""
        if self.scale == 1:
            return self.target.read(window)
        rows = _pixel_centres(window.y, window.height, self.scale)
        columns = _pixel_centres(window.x, window.width, self.scale)
        y, x = int(rows[0]), int(columns[0])
        roi = Roi(y, x, int(rows[-1]) - y + 1, int(columns[-1]) - x + 1)
        return self.target.read(roi)[np.ix_(rows - y, columns - x)]


def _pixel_centres(first: int, count: int, scale: float) -> npt.NDArray[np.int64]:
    """Return the level-0 pixels under the centres of run pixels."""
    centres = (np.arange(first, first + count) + 0.5) * scale
    return np.floor(centres).astype(np.int64)  # type: ignore[no-any-return]
