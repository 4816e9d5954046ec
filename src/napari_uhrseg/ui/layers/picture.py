"""Display of images: composites and channels, their contrast, and what is remembered.

An image appears at once, with limits that are known without reading. A worker then
measures the contrast of each displayed band on a coarse level.
"""

from collections.abc import Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

from qtpy.QtCore import QCoreApplication, QObject, Signal
from superqt.utils import qdebounced

from napari_uhrseg.io.image.band_colors import channel_colors
from napari_uhrseg.io.image.composite import (
    ContrastLimits,
    Picture,
    band_levels,
    composite_levels,
    default_picture,
    measured_limits,
    needs_measuring,
    quick_limits,
    value_bounds,
)
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.ui.widgets.remembered import remember_entry, remembered_entry
from napari_uhrseg.ui.workers.worker import Workers

PICTURES = "pictures"  # key of the remembered pictures, by the image's fingerprint
IMAGE, STORE = "uhrseg_image", "uhrseg_store"  # keys of layers, as in label_layers
BAND = "uhrseg_band"  # metadata key of a layer: the index of its band
VISIBLE_CHANNELS = 4
EDIT_DELAY_MS = 500  # until the contrast that the user sets is remembered
Measured = tuple[tuple[ContrastLimits, ...], tuple[ContrastLimits, ...]]


class ImageDisplay(QObject):
    """Picture of one image in all viewers, and the contrast of its bands.

    Attributes
    ----------
    picture
        Displayed bands, and the kind of stretch.
    limits
        Values of black and white of each displayed band.
    """

    changed = Signal()

    def __init__(self, image: Image) -> None:
        super().__init__()
        self._image = ref(image)  # the image is the key of this object
        self._viewers: WeakSet[Any] = WeakSet()
        self._workers = Workers(self)
        self._applying = False
        self._measured: dict[
            tuple[str, int], ContrastLimits
        ] = {}  # by stretch and band
        self.picture = _remembered(image) or default_picture(image)
        self.limits = quick_limits(image, self.picture)
        self._edited = qdebounced(self._keep_edited, timeout=EDIT_DELAY_MS, parent=self)

    @property
    def image(self) -> Image:
        """The image, which exists as long as a layer shows it."""
        image = self._image()
        assert image is not None
        return image

    def watch(self, viewer: Any) -> None:
        """Update the layers of a viewer too."""
        if viewer is not None:
            self._viewers.add(viewer)

    def layers(self) -> list[Any]:
        """Return the layers of the image, in the order of the bands."""
        import napari

        self.watch(napari.current_viewer())  # readers do not get the viewer
        image = self._image()
        found = [
            x for viewer in self._viewers for x in viewer.layers
            if x.metadata.get(IMAGE) is image and STORE not in x.metadata
        ]  # fmt: skip
        return sorted(found, key=lambda x: int(x.metadata.get(BAND, 0)))

    def layer_data(self) -> list[tuple[Any, dict[str, Any]]]:
        """Return the data and the options of each layer, without scale and units."""
        image, bands = self.image, self.picture.bands
        if bands:
            levels = composite_levels(image, bands, self.limits)
            options = {"name": image.name, "rgb": True, "contrast_limits": (0, 255)}
            return [(shown_data(levels), options)]
        return [
            (shown_data(_band_levels(image, i)), self._band_options(i))
            for i in range(len(image.bands))
        ]

    def set_picture(self, picture: Picture) -> None:
        """Choose other bands or another stretch, and remember the choice."""
        quick = quick_limits(self.image, picture)
        bands = picture.shown_bands(self.image)
        if picture.stretch != "custom":
            quick = tuple(
                self._measured.get((picture.stretch, band), limits)
                for band, limits in zip(bands, quick, strict=True)
            )
        self.picture, self.limits = picture, quick
        self.remember()

    def update(self) -> None:
        """Show the chosen picture in the layers."""
        if not needs_measuring(self.image, self.picture):
            self.limits = quick_limits(self.image, self.picture)
            self._apply()
        elif self.picture.bands:
            self._apply()  # the bands at once, then their contrast
        self.measure()

    def remember(self) -> None:
        """Remember the picture with the image; the default is not stored."""
        image, shown = self.image, self.picture
        entry: dict[str, Any] | None = {
            "bands": shown.bands, "stretch": shown.stretch, "limits": shown.limits
        }  # fmt: skip
        if shown == default_picture(image):
            entry = None
        remember_entry(PICTURES, image.fingerprint, entry)

    def measure(self) -> None:
        """Measure the contrast in a worker, then apply it to the layers."""
        image, picture = self._image(), self.picture
        if image is None or QCoreApplication.instance() is None:
            return
        if not needs_measuring(image, picture):
            self.changed.emit()
            return

        def apply(found: Measured) -> None:
            if self.picture == picture and self._image() is not None:
                self.limits = found[0]
                bands = picture.shown_bands(image)
                for band, limits in zip(bands, found[0], strict=True):
                    self._measured[picture.stretch, band] = limits
                self._apply(found[1])

        self._workers.call(_measure, image, picture, returned=apply)

    def _apply(self, bounds: Sequence[ContrastLimits] = ()) -> None:
        """Set the contrast of the layers, and the ranges of their sliders."""
        layers = self.layers()
        with self._setting():
            if self.picture.bands:
                levels = composite_levels(self.image, self.picture.bands, self.limits)
                for layer in layers:
                    layer.data = shown_data(levels)
            else:
                self._apply_to_channels(layers, bounds)
        self.changed.emit()

    def _apply_to_channels(
        self, layers: Sequence[Any], bounds: Sequence[ContrastLimits]
    ) -> None:
        for layer in layers:
            band = int(layer.metadata.get(BAND, 0))
            low, high = self.limits[band]
            if bounds:
                least, most = bounds[band]
                layer.contrast_limits_range = min(low, least), max(high, most)
            layer.contrast_limits = low, high
            # connecting again has no effect
            layer.events.contrast_limits.connect(self._contrast_edited)

    @contextmanager
    def _setting(self) -> Any:
        self._applying = True
        try:
            yield
        finally:
            self._applying = False

    def _contrast_edited(self) -> None:
        if not self._applying:
            self._edited()

    def _keep_edited(self) -> None:
        """Remember the contrast that the user has set with napari's sliders."""
        image = self._image()
        layers = self.layers()
        if image is None or self.picture.bands or len(layers) < len(image.bands):
            return
        self.limits = tuple(
            (float(low), float(high))
            for low, high in (x.contrast_limits for x in layers[: len(image.bands)])
        )
        self.picture = Picture((), "custom", self.limits)
        self.remember()
        self.changed.emit()

    def _band_options(self, index: int) -> dict[str, Any]:
        image = self.image
        band, many = image.bands[index], len(image.bands) > 1
        name = f"{image.name}: {band.name}" if many else image.name
        options: dict[str, Any] = {"name": name, "contrast_limits": self.limits[index]}
        options["metadata"] = {BAND: index}
        if many:
            options |= {"colormap": channel_colors(image.bands)[index]}
            options |= {"blending": "additive", "visible": index < VISIBLE_CHANNELS}
        return options


_displays: "WeakKeyDictionary[Image, ImageDisplay]" = WeakKeyDictionary()


def display_of(image: Image) -> ImageDisplay:
    """Return the display of an image, which is created on the first call."""
    if image not in _displays:
        _displays[image] = ImageDisplay(image)
    return _displays[image]


def shown_data(levels: Sequence[Any]) -> Any:
    """Return the levels; a single level is no list, which napari shows as a stack."""
    return list(levels) if len(levels) > 1 else levels[0]


def _measure(image: Image, picture: Picture) -> Measured:
    bands = picture.shown_bands(image)
    bounds = () if picture.bands else tuple(value_bounds(image, i) for i in bands)
    return measured_limits(image, picture), bounds


def _remembered(image: Image) -> Picture | None:
    """Return the remembered picture of an image, if it fits; else None."""
    entry = remembered_entry(PICTURES, image.fingerprint) or {}
    with suppress(KeyError, TypeError, ValueError):
        limits = tuple((float(low), float(high)) for low, high in entry["limits"])
        bands = tuple(int(band) for band in entry["bands"])
        if entry["stretch"] in ("percentiles", "full", "custom"):
            picture = Picture(bands, entry["stretch"], limits)
            return picture if picture.fits(image) else None
    return None


def _band_levels(image: Image, band: int) -> list[Any]:
    if image.rgb:
        return list(band_levels(image, band))
    if not set("cs") & set(image.axes):
        return list(image.levels)
    at = tuple(band if axis in "cs" else slice(None) for axis in image.axes)
    return [level[at] for level in image.levels]
