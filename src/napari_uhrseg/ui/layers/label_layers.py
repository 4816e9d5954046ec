"""napari layers of images and label stores."""

import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from napari.layers import Image as ImageLayer
from napari.utils import DirectLabelColormap
from napari.utils.notifications import show_warning
from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import qthrottled

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.composite import Picture
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import LabelClass, Legend, Roi
from napari_uhrseg.ui.layers.label_pyramid import LabelPyramid
from napari_uhrseg.ui.layers.layer_names import labels_name
from napari_uhrseg.ui.layers.picture import display_of, shown_data
from napari_uhrseg.ui.layers.pyramid_progress import build_pyramid

if TYPE_CHECKING:  # zarr takes long to import, so a worker imports it
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.labels.store import LabelStore

KEY = "uhrseg_image"  # metadata key of a layer: its image
STORE = "uhrseg_store"  # metadata key of a layer: the store of its labels
MAX_STEPS = 2**30  # half of the 32-bit range, because napari adds margins
LayerData = tuple[Any, dict[str, Any], str]


def image_layers(image: Image) -> list[LayerData]:
    """Return the image as napari layer data, as its picture was chosen.

    The contrast limits are always set, because napari would read the image for them.
    """
    if image.on_read_error is None:
        image.on_read_error = show_warning
    shared = {**_world(image, len(image.planes))}
    shared["multiscale"] = len(image.levels) > 1
    # napari's cache would fill a quarter of the memory with chunks of our own cache
    shared["cache"] = False
    found = []
    for data, own in display_of(image).layer_data():
        metadata = {KEY: image, **own.pop("metadata", {})}
        found.append((data, {**shared, **own, "metadata": metadata}, "image"))
    return found


def add_image(viewer: Any, image: Image) -> list[Any]:
    """Show the image and the scale bar, measure its contrast, and build its pyramid."""
    check_scales(viewer, image)
    data = image_layers(image)
    # before the layer exists, so that the panel finds the running build
    begin_display(image, viewer)
    layers = [viewer.add_image(d, **options) for d, options, _ in data]
    if image.pixel_size is not None:
        viewer.canvas.overlays.scale_bar.visible = True
    return layers


def begin_display(image: Image, viewer: Any = None) -> None:
    """Start to build missing pyramid levels, and to measure the contrast of an image.

    ``viewer`` is the viewer that will show the image, if it is known.
    """
    display = display_of(image)
    display.watch(viewer)
    build = build_pyramid(image, viewer)
    if build is not None:
        build.ended.connect(display.measure)
    display.measure()


def show_picture(viewer: Any, image: Image, picture: Picture) -> None:
    """Show other bands or another stretch of an image, and remember the choice.

    The layers are replaced if three bands in one layer are to be displayed instead of
    one layer for each band, or the reverse.

    Parameters
    ----------
    viewer
        napari viewer.
    image
        Image that the viewer shows.
    picture
        Bands and stretch.
    """
    display = display_of(image)
    display.watch(viewer)
    replaced = bool(picture.bands) != bool(display.picture.bands)
    display.set_picture(picture)
    if not replaced:
        display.update()
        return
    before = [x for x in display.layers() if x in viewer.layers]
    chosen = viewer.layers.selection.active
    place = min((viewer.layers.index(x) for x in before), default=0)
    layers = [ImageLayer(d, **options) for d, options, _ in image_layers(image)]
    for i, layer in enumerate(layers):
        viewer.layers.insert(place + i, layer)
    for layer in before:
        viewer.layers.remove(layer)
    viewer.layers.selection.active = layers[0] if chosen in before else chosen
    display.measure()


def replace_series(viewer: Any, image: Image) -> list[Any]:
    """Show an image of a file in place of the other images of this file.

    Labels of the other images are hidden until their image is shown again.
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
    """Yield the layers that can be segmented: the first one of each image."""
    seen: set[int] = set()
    for layer in viewer.layers:
        if type(layer).__name__ != "Image" or STORE in layer.metadata:
            continue
        key = id(layer.metadata.get(KEY, layer))
        if key not in seen:
            seen.add(key)
            yield layer


def same_image(one: Image | None, other: Image | None) -> bool:
    """Return whether both are the same image, even if their planes differ."""
    if one is None or other is None:
        return one is other
    return (one.path, one.fingerprint) == (other.path, other.fingerprint)


def check_scales(viewer: Any, image: Image) -> None:
    """Reject an image that napari cannot show beside the open images.

    napari's sliders count the whole scene in the smallest pixels, with 32 bits. A
    slide and a satellite image together exceed this range.

    Raises
    ------
    OpenError
        If the scales differ too much.
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
    """Remove a layer, if it still exists, after napari has finished the current event.

    This is necessary if a removal causes another one. napari removes the selected
    layers one by one, and fails if one of them does not exist any more.
    """

    def remove() -> None:
        with suppress(ValueError):
            viewer.layers.remove(layer)

    QTimer.singleShot(0, remove)


class LabelsView(QObject):
    """Layers of one label store in the colours of its legend.

    Parameters
    ----------
    viewer
        napari viewer.
    store
        Store of the labels.
    image
        Image of the labels.
    layer
        Labels layer of an earlier panel that shows the store already. None: add one.

    Attributes
    ----------
    store, image
        Store of the labels, and its image. Runs use this object too, so that it
        includes everything they have written.
    pyramid
        Levels that napari shows.
    corrections
        Open corrections of the store, or None before the first correction.
    """

    refreshed = Signal()  # the layers were drawn again after a change of the store
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
        self._given_name = self.layer.name  # until the user renames the layer
        if layer is not None:
            layer.data = shown_data(self.pyramid.levels)
            self.set_legend(store.legend)
        self.layer.editable = False  # corrections have their own layer
        self.refresh = qthrottled(self._refresh, timeout=250, parent=self)
        # a later call blocks the window for two short times instead of a long one
        QTimer.singleShot(500, self._add_confidence)

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """Classes of the legend, without those merged into another class."""
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
        """Hide the labels in a rectangle of level-0 pixels; None shows them again."""
        if hole != self.pyramid.masked_region:
            self.pyramid.masked_region = hole
            self._draw()

    def show_only_corrections(self, alone: bool) -> None:
        """Show the corrections with or without the predictions."""
        self.pyramid.only_corrections = alone
        self._refresh()

    def update_name(self) -> None:
        """Name the layers by the last run, unless the user has renamed them."""
        if self.layer.name != self._given_name:
            return
        confidence, before = self._confidence, self._confidence_name
        self.layer.name = labels_name(self.store, self.image)
        self._given_name = self.layer.name  # with a number if the name is in use
        if confidence is not None and confidence.name == before:
            confidence.name = self._confidence_name

    @property
    def _confidence_name(self) -> str:
        return f"Confidence: {self._given_name.removeprefix('Labels: ')}"

    @property
    def alive(self) -> bool:
        """True while the labels layer is in the viewer."""
        return self.layer in self._viewer.layers

    def hide(self) -> None:
        """Hide the labels and the confidence; the layers stay in the viewer."""
        for layer in (self.layer, self._confidence):
            if layer is not None:
                layer.visible = False

    def show(self) -> None:
        """Show the labels; the confidence layer does not change."""
        self.layer.visible = True

    def remove(self) -> None:
        """Remove all layers of the view that are still in the viewer."""
        for layer in (self.layer, self._confidence):
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _add_layer(self) -> Any:
        layer = self._viewer.add_labels(
            shown_data(self.pyramid.levels),
            name=labels_name(self.store, self.image),
            opacity=0.5,
            colormap=self.colormap(),
            features=_features(self.legend),
            **self._shared,
        )
        if self.store.temporary:  # the folder is deleted with its layer
            weakref.finalize(layer, self.store.close)
        return layer

    def _add_confidence(self) -> None:
        """Add the hidden confidence layer under the labels; keep the selected layer."""
        from napari_uhrseg.io.labels.layer_levels import confidence_levels

        layers = self._viewer.layers
        if not self.alive:
            return
        of_store = (x for x in layers if x.metadata.get(STORE) is self.store)
        self._confidence = next((x for x in of_store if x is not self.layer), None)
        if self._confidence is not None:  # an earlier panel added it
            return
        chosen = layers.selection.active
        self._confidence = ImageLayer(
            shown_data(confidence_levels(self.store)),
            name=self._confidence_name,
            contrast_limits=(0, 255),
            colormap="viridis",
            blending="additive",
            visible=False,
            **self._shared,
        )
        layers.insert(layers.index(self.layer), self._confidence)
        layers.selection.active = chosen

    def colormap(self) -> DirectLabelColormap:
        """Return a new colormap with the legend's colours; layers cannot share one."""
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
    """Return the class names by id, which napari shows in the status bar."""
    return {
        "index": [0, *(c.id for c in legend)],
        "class": ["unlabelled", *(c.name for c in legend)],
    }


def _world(image: Image, planes: int = 0) -> dict[str, Any]:
    """Return scale and units for the scale bar; the unit of planes is a pixel."""
    if image.pixel_size is None:
        return {}
    scale = (1.0,) * planes + tuple(image.pixel_size)
    return {"scale": scale, "units": ("pixel",) * planes + (image.unit,) * 2}
