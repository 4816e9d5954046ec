"""Paint area: layer of the visible labels that the user can paint on.

napari paints on labels that are in memory. Therefore, a layer of a few chunks lies
over the labels and follows the view. Each stroke on it is written to the store.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Signal
from superqt.utils import qdebounced

from napari_uhrseg.types import Labels, Roi, Stroke
from napari_uhrseg.ui.correct.class_keys import ClassKeys
from napari_uhrseg.ui.correct.paint_layer import PaintLayer
from napari_uhrseg.ui.correct.write_queue import WriteQueue, undo_or_redo
from napari_uhrseg.ui.layers.label_layers import LabelsView, remove_later
from napari_uhrseg.ui.layers.paint_region import (
    MAX_PAINT_LEVEL,
    PaintRegion,
    paint_level_for,
    paint_region_for,
)
from napari_uhrseg.ui.layers.viewport import view_rectangle
from napari_uhrseg.ui.workers.worker import report

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.corrections.undo import Direction

BRUSH = 20  # pixels
FILLED = (
    "The fill stopped at the edge of the paint area. Move the view and fill again, or "
    "draw a shape and use Fill shapes."
)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Labels that were read for a region, and the number of earlier strokes."""

    area: PaintRegion
    alone: bool
    strokes: int
    shown: Labels
    under: Labels


class PaintArea(QObject):
    """Paintable layer over the labels of a view, until it is stopped.

    The writer's thread reads and writes in the order of the strokes. Labels that were
    read during a stroke are discarded and read again.
    """

    changed = Signal(object)  # Roi of changed corrections
    moved = Signal(str)  # message on what can be painted now
    chosen = Signal(int)  # class id, by picker or key
    closed = Signal()  # the user has removed the layer
    long = Signal(str)  # "undo" or "redo" of a change that needs a worker

    def __init__(
        self,
        viewer: Any,
        view: LabelsView,
        corrections: "Corrections",
        writer: WriteQueue,
    ) -> None:
        super().__init__()
        self._viewer, self._view = viewer, view
        self._corrections, self._writer = corrections, writer
        self._area: PaintRegion | None = None
        self._under: Labels = np.zeros((1, 1), np.uint8)
        self._strokes = 0  # labels that were read before the last one are stale
        self._reading = self._again = self._told_fill = self._stopped = False
        self._mode, self._keys, self._label = "paint", ClassKeys(), 0  # no class yet
        self._later = qdebounced(self._follow, timeout=80, parent=self)
        self.layer = self._make_layer()
        camera, canvas = viewer.scene.camera.events, viewer.canvas.events
        self._events = (camera.center, camera.zoom, canvas.size)
        for event in self._events:
            event.connect(self._moved)
        view.refreshed.connect(self._reread)
        view.legendChanged.connect(self._legend_changed)
        viewer.layers.events.removed.connect(self._removed)
        self._follow()

    @property
    def area(self) -> PaintRegion | None:
        """Region that can be painted now; None if zoomed out too far or not in view."""
        return self._area

    def undo(self) -> None:
        self.undo_or_redo("undo")

    def redo(self) -> None:
        self.undo_or_redo("redo")

    def undo_or_redo(self, way: "Direction") -> None:
        undo_or_redo(self._writer, self._corrections, way, self._undone, self.long.emit)

    def choose(self, class_id: int) -> None:
        """Paint with this class; 0 selects the eraser."""
        if class_id:
            self.layer.selected_label = class_id
        mode = str(self.layer.mode) if self.layer.visible else self._mode
        if class_id == 0:
            mode = "erase"
        elif mode in ("pan_zoom", "erase", "pick", "transform"):
            mode = "paint"
        self.set_mode(mode)

    def set_mode(self, mode: str) -> None:
        """Set napari's mode of the layer; a hidden layer gets it when it is shown."""
        if self.layer.visible:
            self.layer.mode = mode
        else:
            self._mode = mode

    def refresh(self) -> None:
        """Read the labels in view again after a change of the store."""
        self._again = True
        if not self._stopped:
            self._read()

    def stop(self, *, later: bool = False) -> None:
        """Remove the layer; the writer still writes the waiting strokes.

        ``later`` removes it after napari has finished the removal of another layer.
        """
        for event in self._events:
            event.disconnect(self._moved)
        self._viewer.layers.events.removed.disconnect(self._removed)
        self._view.refreshed.disconnect(self._reread)
        self._view.legendChanged.disconnect(self._legend_changed)
        self._later.cancel()
        self._stopped = True  # labels that are still being read are not shown
        self.layer.cancel()
        self._view.set_masked_region(None)
        if later:
            remove_later(self._viewer, self.layer)
        elif self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)

    # -- the layer --------------------------------------------------------------

    def _make_layer(self) -> PaintLayer:
        under, legend = self._view.layer, self._view.classes
        layer = PaintLayer(
            np.zeros((1, 1), np.uint8),
            painted=self._painted,
            undo_with=self.undo,
            redo_with=self.redo,
            filled=self._filled,
            submit=self._writer.submit,
            name=f"{under.name}: correct",
            opacity=under.opacity,
            blending=under.blending,
            colormap=self._view.colormap(),
            scale=under.scale,
            affine=under.affine.affine_matrix,
            units=under.units,
            features=under.features,
            visible=False,
        )
        layer.brush_size = BRUSH
        layer.selected_label = next((c.id for c in legend), 1)
        for digit in range(10):
            press = partial(self._digit_pressed, digit)
            layer.bind_key(str(digit), lambda _, press=press: press(), overwrite=True)
        layer.events.selected_label.connect(self._label_chosen)
        layer.events.opacity.connect(self._opacity_set)
        layers = self._viewer.layers
        layers.insert(layers.index(under) + 1, layer)
        layers.selection.active = layer
        return layer

    def _digit_pressed(self, digit: int) -> None:
        """Choose the class of a row, or the eraser."""
        legend = self._view.classes
        row = self._keys.press(digit, len(legend))
        if row is not None:
            self.choose(legend[row - 1].id if row else 0)

    def _label_chosen(self) -> None:
        label, before = int(self.layer.selected_label), self._label
        known = [c.id for c in self._view.classes]
        if label and known and label not in known:  # by napari's + and -
            way = [i for i in known if (i > before) == (label > before) and i != before]
            label = min(way or known, key=lambda i: abs(i - label))
            self.layer.selected_label = label
            return
        self._label = label
        self.chosen.emit(label)

    def _opacity_set(self) -> None:
        self._view.layer.opacity = self.layer.opacity

    def _legend_changed(self) -> None:
        self.layer.colormap = self._view.colormap()
        self.layer.features = self._view.layer.features
        self._label_chosen()
        self.refresh()

    def _removed(self, event: Any) -> None:
        if event.value in (self.layer, self._view.layer):
            self.closed.emit()

    # -- following the view -------------------------------------------------------

    def _moved(self) -> None:
        self._later()

    def _reread(self) -> None:
        """Read the labels again after a run has written some."""
        if self._area is not None:
            self.refresh()

    def _wanted(self) -> PaintRegion | None:
        """Return the region to paint; the present region if it still fits the view."""
        seen = view_rectangle(self._viewer, self._view.layer)
        if seen is None:
            self.moved.emit("The image is not in view.")
            return None
        store, canvas = self._view.store, self._canvas()
        levels = len(store.prediction)
        if self._area is not None and self._area.fits(seen, canvas, levels):
            return self._area
        area = paint_region_for(seen, canvas, store.shape, levels)
        if area is None:
            square = 1 << paint_level_for(seen, canvas, levels)
            self.moved.emit(
                "Zoomed out too far to paint: one pixel of the brush would cover "
                f"{square} x {square} image pixels. Zoom in until it covers at most "
                f"{1 << MAX_PAINT_LEVEL} x {1 << MAX_PAINT_LEVEL}."
            )
        return area

    def _canvas(self) -> tuple[int, int]:
        height, width = self._viewer.canvas.size
        return int(height), int(width)

    def _follow(self) -> None:
        if self.layer.stroking:
            self._later()
            return
        area = self._wanted()
        if area is None:
            self._leave()
        else:
            self._again |= area != self._area
            self._read()

    def _read(self) -> None:
        """Request the labels in view; only one request is active."""
        if self._reading or not self._again:
            return
        if self.layer.stroking:
            self._later()  # comes back here when the stroke has ended
            return
        area = self._wanted()
        self._again = False
        if area is None:
            self._leave()
            return
        self._reading = True
        alone = self._view.pyramid.only_corrections
        self._writer.submit(
            self._load, area, alone, self._strokes,
            then=self._loaded, failed=self._not_loaded,
        )  # fmt: skip

    def _load(self, area: PaintRegion, alone: bool, strokes: int) -> "_Loaded":
        """Read the labels with and without corrections on the writer's thread."""
        from napari_uhrseg.io.labels.pyramid import apply_aliases, overlay, read_array

        store, level = self._view.store, area.level
        key = area.slices
        corrected = apply_aliases(
            read_array(store.correction[level], key), store.aliases
        )
        under = np.zeros_like(corrected)
        if not alone:
            under = apply_aliases(
                read_array(store.prediction[level], key), store.aliases
            )
        return _Loaded(area, alone, strokes, overlay(under, corrected).copy(), under)

    def _loaded(self, loaded: "_Loaded") -> None:
        self._reading = False
        if self._stopped:
            return
        stale = (
            loaded.strokes != self._strokes
            or loaded.alone != self._view.pyramid.only_corrections
        )
        if stale or self.layer.stroking:
            self._again = True
            self._read()
            return
        self._under = loaded.under
        self._show(loaded.area, loaded.shown)
        self._read()

    def _not_loaded(self, error: Exception) -> None:
        self._reading = False
        report(error)

    def _show(self, area: PaintRegion, shown: Labels) -> None:
        layer, before = self.layer, self._area
        if area == before:
            if not np.array_equal(layer.data, shown):
                layer.data[:] = shown
                layer.redraw()
            return
        self._area = area
        self._view.set_masked_region(area.roi)
        under, step = self._view.layer, 1 << area.level
        layer.data = shown
        origin = np.array([area.roi.y, area.roi.x]) + (step - 1) / 2
        layer.translate = under.translate[-2:] + under.scale[-2:] * origin
        scale = under.scale[-2:] * step
        if not np.array_equal(layer.scale, scale):  # each setter draws again
            layer.scale = scale
            layer.brush_size = layer.brush_size  # the cursor's size follows
        self._set_visible(True)
        self.moved.emit(
            "Painting at full resolution."
            if step == 1
            else f"Zoomed out: one brush pixel covers {step} x {step} image pixels."
        )

    def _leave(self) -> None:
        """Hide the layer because nothing in view can be painted."""
        if self._area is not None:
            self._area = None
            self._set_visible(False)
            self._view.set_masked_region(None)

    def _set_visible(self, visible: bool) -> None:
        """Show or hide the layer; napari loses the mode of hidden layers."""
        layer = self.layer
        if layer.visible == visible:
            return
        if not visible:
            self._mode = str(layer.mode)
        layer.visible = visible
        if visible:
            layer.mode = self._mode

    # -- strokes ------------------------------------------------------------------

    def _painted(self, box: Roi, mask: Any, ids: Labels) -> None:
        area = self._area
        if area is None:
            return
        self._strokes += 1
        erased = mask & (ids == 0)
        if erased.any():
            here = self.layer.data[box.slices]
            here[erased] = self._under[box.slices][erased]
            self.layer.redraw()
        stroke = Stroke(area.to_image(box), mask, ids, area.level)
        self._writer.submit(
            self._corrections.apply, stroke, then=self.changed.emit, failed=self._lost
        )

    def _lost(self, error: Exception) -> None:
        """Report a stroke that could not be written, and remove it from the layer."""
        report(error)
        self.refresh()

    def _filled(self, box: Roi) -> None:
        area = self._area
        if area is None or self._told_fill:
            return
        height, width = self._view.store.shape
        filled = area.to_image(box)
        inner = (
            (filled.y == area.roi.y and filled.y > 0),
            (filled.x == area.roi.x and filled.x > 0),
            (filled.bottom == area.roi.bottom and filled.bottom < height),
            (filled.right == area.roi.right and filled.right < width),
        )
        if any(inner):
            self._told_fill = True
            show_info(FILLED)

    def _undone(self, roi: Roi | None) -> None:
        if roi is None:
            return
        self._strokes += 1
        area = self._area
        if area is None or not area.roi.contains(roi):
            self._view.refresh()
        self.refresh()
        self.changed.emit(roi)
