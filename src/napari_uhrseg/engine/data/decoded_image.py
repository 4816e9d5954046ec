"""Images that are decoded once and stay in memory during a training."""

from collections.abc import Sequence

from napari_uhrseg.io.image.image import Image, Pixels
from napari_uhrseg.types import Roi


class DecodedImage:
    """Image with decoded level-0 pixels in memory; coarser reads use the file."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._pixels = image.read(Roi(0, 0, *image.shape))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of level 0."""
        return self._image.shape

    @property
    def cached_bytes(self) -> int:
        """Bytes in memory."""
        return sum(array.nbytes for array in self._pixels)

    def read(
        self,
        roi: Roi,
        size: tuple[int, int] | None = None,
        bands: Sequence[int] | None = None,
    ) -> Pixels:
        """Return pixels as ``Image.read`` does.

        Parameters
        ----------
        roi
            Rectangle of level-0 pixels.
        size
            Height and width of the result; ``None``: those of ``roi``.
        bands
            Band numbers in the requested order; ``None``: all.
        """
        whole = Roi(0, 0, *self.shape)
        if size not in (None, (roi.height, roi.width)) or not whole.contains(roi):
            return self._image.read(roi, size, bands)
        data, valid = (a[roi.slices] for a in self._pixels)
        chosen = None if bands is None else list(bands)
        if chosen is not None and chosen != list(range(data.shape[-1])):
            data = data[..., chosen]
        return Pixels(data, valid)


def decode_images(images: Sequence[Image], limit: int) -> list[DecodedImage | None]:
    """Decode images into memory up to a limit.

    Returns
    -------
    list
        A decoded image while the sum stays within ``limit`` bytes; None for the others.
    """
    found = []
    for image in images:
        height, width = image.shape
        limit -= height * width * (len(image.bands) * image.dtype.itemsize + 1)
        found.append(DecodedImage(image) if limit >= 0 else None)
    return found
