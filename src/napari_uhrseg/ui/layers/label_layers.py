"""Images and label stores as napari layers, and keeping the labels fresh."""

import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.utils import DirectLabelColormap
from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import qthrottled

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import LabelClass, Legend, Roi
from napari_uhrseg.ui.layers.label_pyramid import LabelPyramid
from napari_uhrseg.ui.layers.pyramid_progress import build_pyramid

if TYPE_CHECKING:  # zarr takes long to import; a worker has done it by then
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.store import LabelStore

KEY = "uhrseg_image"  # in a layer's metadata: the image shown or labelled
STORE = "uhrseg_store"  # also: the store of which it shows labels or confidence
MAX_STEPS = 2**30  # half of what fits, for the margins napari adds
LayerData = tuple[Any, dict[str, Any], str]

_BY_NAME = {name: name for name in ("red", "green", "blue", "cyan", "magenta")}
_IN_TURN = ("gray", "green", "magenta", "cyan", "yellow", "red", "blue")


def image_layers(image: Image) -> list[LayerData]:
    """The image as napari layer data: one layer, or one a band if it is not RGB.

    Contrast limits are always given, since napari would read the image for them.
    """
    if image.on_read_error is None:
        image.on_read_error = show_warning
    shared = {"metadata": {KEY: image}, **_world(image, len(image.planes))}
    shared["multiscale"] = len(image.levels) > 1
    # napari's would keep a quarter of the memory full of what the chunk cache has
    shared["cache"] = False
    if image.rgb:
        options = {"name": image.name, "rgb": True, "contrast_limits": (0, 255)}
        return [(_data(image.levels), {**shared, **options}, "image")]
    return [
        (_data(_band_levels(image, i)), {**shared, **_band_options(image, i)}, "image")
        for i in range(len(image.bands))
    ]


def add_image(viewer: Any, image: Image) -> list[Any]:
    """Show the image, begin to fill what it lacks, and show the scale bar."""
    check_scales(viewer, image)
    data = image_layers(image)
    build_pyramid(
        image, viewer
    )  # before the layer exists, so that the panel finds it running
    layers = [viewer.add_image(d, **options) for d, options, _ in data]
    if image.pixel_size is not None:
        viewer.canvas.overlays.scale_bar.visible = True
    return layers


def replace_series(viewer: Any, image: Image) -> list[Any]:
    """Show this image of a file in the place of the others of that file.

    Labels of the others are hidden, and shown again with their image.
    """
    before = [x for x in viewer.layers if _is_of_file(x, image)]
    place = min((viewer.layers.index(x) for x in before), default=None)
    layers = add_image(viewer, image)
    if place is not None:
        for i, layer in enumerate(layers):
            viewer.layers.move(viewer.layers.index(layer), place + i)
    for layer in before:
        if STORE not in layer.metadata:
            viewer.layers.remove(layer)
        elif layer.metadata[KEY].series_number != image.series_number:
            layer.visible = False
        elif type(layer).__name__ == "Labels":
            layer.visible = True
    viewer.reset_view()
    return layers


def _is_of_file(layer: Any, image: Image) -> bool:
    other = layer.metadata.get(KEY)
    return other is not None and other.path == image.path


def images_in(viewer: Any) -> Iterator[Any]:
    """The image layers one can segment: of an image shown by band, the first."""
    seen: set[int] = set()
    for layer in viewer.layers:
        if type(layer).__name__ != "Image" or STORE in layer.metadata:
            continue
        key = id(layer.metadata.get(KEY, layer))
        if key not in seen:
            seen.add(key)
            yield layer


def same_image(one: Image | None, other: Image | None) -> bool:
    """Whether both are one image, whichever planes of it."""
    if one is None or other is None:
        return one is other
    return (one.path, one.fingerprint) == (other.path, other.fingerprint)


def check_scales(viewer: Any, image: Image) -> None:
    """Refuse an image that napari cannot show beside those that are there.

    Its sliders count the whole scene in the smallest pixels, in 32 bits: a slide
    beside kilometres of ground is too much.

    Raises
    ------
    OpenError
    """
    others = [x.metadata[KEY] for x in viewer.layers if KEY in x.metadata]
    sizes = [
        (i.meters_per_pixel, max(i.shape))
        for i in (image, *others)
        if i.meters_per_pixel is not None
    ]
    if not sizes or image.meters_per_pixel is None:
        return
    steps = max(size * n for size, n in sizes) / min(size for size, _ in sizes)
    if steps > MAX_STEPS:
        raise OpenError(
            f"The scale of {image.name} differs too much from the open layers.",
            "Remove the other layers first, or open the image in a second window.",
        )


def remove_later(viewer: Any, layer: Any) -> None:
    """Remove a layer, if it is still there, when napari has ended what it does.

    For where a removal leads to another one: napari removes what is selected one by
    one, and fails at a layer that is gone by then.
    """

    def remove() -> None:
        with suppress(ValueError):
            viewer.layers.remove(layer)

    QTimer.singleShot(0, remove)


class LabelsView(QObject):
    """The layers of one label store, and the legend's colours on them.

    ``layer``: one that shows the store already, and outlived the panel that made it.

    Attributes
    ----------
    store, image
        Store of the labels, and its image. Runs reopen this very store, so that one
        object knows what all have written.
    pyramid
        The levels that napari shows.
    corrections
        Of the store, once someone corrects; None before.
    """

    refreshed = Signal()  # drawn again after something was written
    legendChanged = Signal()

    def __init__(
        self, viewer: Any, store: "LabelStore", image: Image, layer: Any = None
    ) -> None:
        super().__init__()
        self._viewer, self.store, self.hidden = viewer, store, set[int]()
        self.image, self.legend = image, store.legend
        self.corrections: Corrections | None = None
        self.pyramid = LabelPyramid(store)
        self._shared = {
            "multiscale": len(store.prediction) > 1,
            "cache": False,
            "metadata": {KEY: image, STORE: store},
            **_world(image),
        }
        self._confidence: Any = None
        self.layer = layer if layer is not None else self._add_layer()
        if layer is not None:
            layer.data = _data(self.pyramid.levels)
            self.set_legend(store.legend)
        self.layer.editable = False  # corrections are painted on a layer of their own
        self.refresh = qthrottled(self._refresh, timeout=250, parent=self)
        # later: two short blocks of the window instead of a long one
        QTimer.singleShot(500, self._add_confidence)

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """The legend without what was merged into another class."""
        return tuple(c for c in self.legend if c.id not in self.store.aliases)

    def set_legend(self, legend: Legend) -> None:
        self.legend = legend
        self.layer.features = _features(legend)
        self.layer.colormap = self.colormap()
        self.legendChanged.emit()

    def show_class(self, class_id: int, shown: bool) -> None:
        """Hide or show the pixels of one class."""
        self.hidden.discard(class_id) if shown else self.hidden.add(class_id)
        self.layer.colormap = self.colormap()
        self.legendChanged.emit()

    def set_masked_region(self, hole: Roi | None) -> None:
        """Show nothing in a rectangle (level-0 pixels); None ends that."""
        if hole != self.pyramid.masked_region:
            self.pyramid.masked_region = hole
            self._draw()

    def show_only_corrections(self, alone: bool) -> None:
        """Show the corrections without what was predicted."""
        self.pyramid.only_corrections = alone
        self._refresh()

    @property
    def alive(self) -> bool:
        """Whether the labels layer is still in the viewer."""
        return self.layer in self._viewer.layers

    def hide(self) -> None:
        """Out of sight, not out of the viewer."""
        for layer in (self.layer, self._confidence):
            if layer is not None:
                layer.visible = False

    def show(self) -> None:
        """The labels in sight again; the confidence stays as it is."""
        self.layer.visible = True

    def remove(self) -> None:
        """Out of the viewer, whichever of its layers are still there."""
        for layer in (self.layer, self._confidence):
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _add_layer(self) -> Any:
        layer = self._viewer.add_labels(
            _data(self.pyramid.levels),
            name=f"{self.image.name} labels",
            opacity=0.5,
            colormap=self.colormap(),
            features=_features(self.legend),
            **self._shared,
        )
        if self.store.temporary:  # the folder goes with the layer that shows it
            weakref.finalize(layer, self.store.close)
        return layer

    def _add_confidence(self) -> None:
        """The confidence under the labels, hidden; the layer chosen stays chosen."""
        from napari_uhrseg.io.labels.layer_levels import confidence_levels

        layers = self._viewer.layers
        if not self.alive:
            return
        of_store = (x for x in layers if x.metadata.get(STORE) is self.store)
        self._confidence = next((x for x in of_store if x is not self.layer), None)
        if self._confidence is not None:  # of the panel before
            return
        chosen = layers.selection.active
        name, _, number = self.layer.name.rpartition("labels")
        self._confidence = ImageLayer(
            _data(confidence_levels(self.store)),
            name=f"{name}confidence{number}",
            contrast_limits=(0, 255),
            colormap="viridis",
            blending="additive",
            visible=False,
            **self._shared,
        )
        layers.insert(layers.index(self.layer), self._confidence)
        layers.selection.active = chosen

    def colormap(self) -> DirectLabelColormap:
        """The legend's colours, a map of their own for each layer."""
        clear = (0.0, 0.0, 0.0, 0.0)
        colors: dict[int | None, tuple[float, ...]] = {None: clear, 0: clear}
        for c in self.legend:
            solid = (*(v / 255 for v in c.rgb), 1.0)
            colors[c.id] = clear if c.id in self.hidden else solid
        return DirectLabelColormap(color_dict=colors)

    def _refresh(self) -> None:
        self._draw()
        if self._confidence in self._viewer.layers and self._confidence.visible:
            self._confidence.refresh(extent=False, thumbnail=False, highlight=False)
        self.refreshed.emit()

    def _draw(self) -> None:
        self.pyramid.refresh()
        if self.alive and self.layer.visible:
            self.layer.refresh(extent=False, thumbnail=False, highlight=False)


def _features(legend: Legend) -> dict[str, list[Any]]:
    """Class names by id, which napari shows in the status bar."""
    return {
        "index": [0, *(c.id for c in legend)],
        "class": ["unlabelled", *(c.name for c in legend)],
    }


def _world(image: Image, planes: int = 0) -> dict[str, Any]:
    """Scale and units, so that the scale bar is right; planes are just counted."""
    if image.pixel_size is None:
        return {}
    scale = (1.0,) * planes + tuple(image.pixel_size)
    return {"scale": scale, "units": ("pixel",) * planes + (image.unit,) * 2}


def _data(levels: Sequence[Any]) -> Any:
    """Napari takes a list of one level for a stack."""
    return list(levels) if len(levels) > 1 else levels[0]


def _band_levels(image: Image, band: int) -> list[Any]:
    if not set("cs") & set(image.axes):
        return list(image.levels)
    at = tuple(band if axis in "cs" else slice(None) for axis in image.axes)
    return [level[at] for level in image.levels]


def _band_options(image: Image, index: int) -> dict[str, Any]:
    band, many = image.bands[index], len(image.bands) > 1
    name = f"{image.name}: {band.name}" if many else image.name
    limits = band.range or image.estimate_range()
    options: dict[str, Any] = {"name": name, "contrast_limits": limits}
    if many:
        color = _BY_NAME.get(band.name.lower(), _IN_TURN[(index + 1) % len(_IN_TURN)])
        options |= {"colormap": color, "blending": "additive", "visible": index < 3}
    return options
