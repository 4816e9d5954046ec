"""Use of the tools that select regions: work area, mouse, preview and stroke.

::

    tool chosen, or view at rest -> worker: pixels of the view -> tool.prepare, cached
    press                        -> tool.begin
    drag                         -> select -> preview in the paint layer
    release                      -> stroke of the paint layer, as of napari's brush
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal
from superqt.utils import qdebounced

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.correct.paint_area import PaintArea
from napari_uhrseg.ui.correct.tools.registry import TOOLS
from napari_uhrseg.ui.correct.tools.tool import Gesture, Selected, Selector, Tool
from napari_uhrseg.ui.layers.label_layers import LabelsView
from napari_uhrseg.ui.layers.paint_region import PaintRegion
from napari_uhrseg.ui.layers.picture import display_of
from napari_uhrseg.ui.layers.viewport import view_rectangle
from napari_uhrseg.ui.workers.worker import Workers, report
from napari_uhrseg.units import formatted

CACHED = 4  # views whose preparations are kept
MARGIN = 8  # a work area is wider than the view by one part of so many, per side
RESTED_MS = 150
LINES = "napari_uhrseg.engine.selection.outline"
DOUBLED = 150  # screen pixels of a drag that double the tolerance
STEP = 1.25  # factor of the tolerance for one press of a key
LEAST, MOST = 1 / 16, 16.0  # tolerances
PREPARING = "{}: the view is being prepared…"
NOT_READY = "{}: please wait until the view is prepared."


@dataclass(frozen=True, slots=True)
class _View:
    """Part of the image and display for which a tool is prepared."""

    title: str
    roi: Roi
    level: int
    bands: tuple[int, ...]
    limits: tuple[tuple[float, float], ...]

    def covers(self, other: "_View") -> bool:
        """Return whether a preparation for this view serves for another one."""
        return replace(self, roi=other.roi) == other and self.roi.contains(other.roi)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Rectangle and level of a work area, and what a tool has prepared for it."""

    roi: Roi
    level: int
    value: Any


class ToolUse(QObject):
    """Tool that the mouse uses on a paint area, until it is stopped.

    Parameters
    ----------
    viewer
        napari viewer.
    view
        Labels with their image.
    area
        Paint area over the labels.
    workers
        Workers of the panel.
    """

    changed = Signal(object)  # Tool in use, or None for another mode of napari
    status = Signal(str)

    def __init__(
        self, viewer: Any, view: LabelsView, area: PaintArea, workers: Workers
    ) -> None:
        super().__init__()
        self._viewer, self._view, self._area = viewer, view, area
        self._workers, self._layer = workers, area.layer
        self._tool: Tool | None = None
        self._tolerances: dict[str, float] = {}
        self._cache: OrderedDict[_View, _Prepared] = OrderedDict()
        self._prepared: _Prepared | None = None
        self._fitting: PaintRegion | None = None  # for which it is prepared
        self._working: set[str] = set()  # titles of tools that are being prepared
        self._choosing = self._stopped = self._cancelled = False
        self._display = display_of(view.image)
        self._rested = qdebounced(self._prepare, timeout=RESTED_MS, parent=self)
        camera, canvas = viewer.scene.camera.events, viewer.canvas.events
        self._events = (camera.center, camera.zoom, canvas.size)
        for event in self._events:
            event.connect(self._moved)
        area.moved.connect(self._moved)  # labels of the view may be read later
        self._display.changed.connect(self._moved)
        self._layer.mouse_drag_callbacks.append(self._drag)
        self._layer.events.mode.connect(self._mode_changed)
        self._mode_changed()

    @property
    def tool(self) -> Tool | None:
        """The tool in use; None if napari's layer is in a mode without a tool."""
        return self._tool

    @property
    def ready(self) -> bool:
        """True if the tool can be used on the view now."""
        needs = self._tool is not None and self._tool.selector is not None
        fits = self._prepared is not None and self._fitting == self._area.area
        return fits or not needs

    def choose(self, tool: Tool) -> None:
        """Use a tool."""
        self._choosing = True
        self._area.set_mode(tool.mode)
        self._choosing = False
        self._use(tool)
        self.status.emit(f"{tool.title}: {tool.tip}")
        self._prepare()

    def resize(self, sign: int) -> None:
        """Make the brush larger or the tolerance higher (1), or the reverse (-1)."""
        tool, layer = self._tool, self._layer
        if tool is None or tool.selector is None or tool.cursor == "circle":
            size = int(layer.brush_size)
            layer.brush_size = max(1, size + sign * max(1, size // 10))
            return
        before = self._tolerances.get(tool.title, 1.0)
        after = float(np.clip(before * STEP**sign, LEAST, MOST))
        self._tolerances[tool.title] = after
        self.status.emit(f"{tool.title}: sensitivity {formatted(after, '.0%')}.")

    def cancel(self) -> None:
        """Discard the region or polygon that is being drawn."""
        self._cancelled = True
        self._layer.cancel()

    def stop(self) -> None:
        """Leave the layer."""
        self._stopped = True
        self._rested.cancel()
        for event in self._events:
            event.disconnect(self._moved)
        self._area.moved.disconnect(self._moved)
        self._display.changed.disconnect(self._moved)
        self._layer.events.mode.disconnect(self._mode_changed)
        self._layer.mouse_drag_callbacks.remove(self._drag)

    # -- the tool in use ----------------------------------------------------------

    def _use(self, tool: Tool | None) -> None:
        self._tool, self._prepared, self._fitting = tool, None, None
        self._layer.fills = tool is None or tool.selector is None
        self._set_cursor()
        self.changed.emit(tool)

    def _set_cursor(self) -> None:
        tool, mode = self._tool, str(self._layer.mode)
        if tool is not None and tool.selector is not None and tool.mode == mode:
            self._layer.cursor = tool.cursor

    def _mode_changed(self) -> None:
        """Follow napari's keys and buttons; moving the view keeps the tool."""
        mode = str(self._layer.mode)
        if self._choosing or mode in ("pan_zoom", "transform"):
            return
        if self._tool is not None and self._tool.mode == mode:
            self._set_cursor()
            return
        own = (t for t in TOOLS if t.mode == mode and t.selector is None)
        self._use(next(own, None))

    # -- the work area ------------------------------------------------------------

    def _moved(self) -> None:
        self._rested()

    def _prepare(self) -> None:
        """Prepare the tool for what is in view, unless that is done."""
        tool, found = self._tool, self._wanted()
        self._prepared, self._fitting = None, None
        if tool is None or tool.selector is None or found is None or self._stopped:
            return
        seen, region = found
        image, limits = self._view.image, tuple(self._display.limits)
        bands = self._display.picture.shown_bands(image)
        view = _View(tool.title, seen, region.level, bands, limits)
        known = next((v for v in reversed(self._cache) if v.covers(view)), None)
        if known is not None:
            self._cache.move_to_end(known)
            self._prepared, self._fitting = self._cache[known], region
            return
        if tool.title in self._working:
            return  # comes back here when that has ended
        margin = max(seen.height, seen.width) // MARGIN
        roi = seen.grow(margin).intersect(region.roi).align(1 << region.level)
        view = replace(view, roi=roi)
        self._working.add(tool.title)
        self.status.emit(PREPARING.format(tool.title))

        def done(prepared: _Prepared) -> None:
            self._cache[view] = prepared
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
            if tool is self._tool:
                self.status.emit(f"{tool.title}: {tool.tip}")

        def failed(error: Exception) -> None:
            report(error)
            if tool is self._tool:
                self._use(None)

        def ended() -> None:
            self._working.discard(tool.title)
            if not self._stopped:
                self._prepare()

        self._workers.call(
            _read_and_prepare, image, view, tool.selector,
            returned=done, errored=failed, finished=ended,
        )  # fmt: skip

    def _wanted(self) -> tuple[Roi, PaintRegion] | None:
        """Return the visible part of the paint region, and the region."""
        region = self._area.area
        seen = view_rectangle(self._viewer, self._view.layer)
        if region is None or seen is None:
            return None
        seen = seen.intersect(region.roi)
        return (seen, region) if seen.area else None

    # -- the mouse ----------------------------------------------------------------

    def _drag(self, layer: Any, event: Any) -> Iterator[None]:
        """Select and preview from press to release, as napari's drag callbacks do."""
        tool, region, prepared = self._tool, self._area.area, self._prepared
        if tool is None or tool.selector is None or str(layer.mode) != tool.mode:
            return
        if event.button != 1 or region is None:
            return
        if prepared is None or not self.ready:
            self.status.emit(NOT_READY.format(tool.title))
            return
        start, self._cancelled = event.pos[0], False
        points = [_point(layer, event, region, prepared)]
        select = tool.selector.begin(prepared.value, points[0])
        factor = self._tolerances.get(tool.title, 1.0)

        def show() -> None:
            drawn = 2 ** ((event.pos[0] - start) / DOUBLED)
            step = 1 << (prepared.level - region.level)
            gesture = Gesture(
                tuple(points), float(layer.brush_size) / 2 / step, factor * drawn
            )
            layer.preview(*_in_layer(select(gesture), prepared, region))

        show()
        yield
        while event.type == "mouse_move":
            if not self._cancelled:
                points.append(_point(layer, event, region, prepared))
                show()
            yield
        layer.finish_preview()


def _read_and_prepare(image: Image, view: _View, selector: Selector) -> _Prepared:
    """Read the pixels of a view, and prepare a tool, in a worker."""
    from napari_uhrseg.engine.selection.work_area import read_work_area, work_level

    import_module(LINES)  # not by the first stroke, on the Qt thread
    level = work_level(view.roi, view.level)
    area = read_work_area(image, view.roi, level, view.bands, view.limits)
    return _Prepared(area.roi, area.level, selector.prepare(area))


def _point(
    layer: Any, event: Any, region: PaintRegion, work: _Prepared
) -> tuple[float, float]:
    """Return the row and column of the mouse in pixels of the work area."""
    at = np.asarray(layer.world_to_data(event.position))[-2:]
    image = (at + 0.5) * (1 << region.level) + (region.roi.y, region.roi.x)
    y, x = (image - (work.roi.y, work.roi.x)) / (1 << work.level) - 0.5
    return float(y), float(x)


def _in_layer(selected: Selected, work: _Prepared, region: PaintRegion) -> Selected:
    """Return a selection in pixels of the paint layer."""
    box, mask = selected
    inner = Roi.around(mask) or Roi(0, 0, 0, 0)
    box, mask = inner.shift(box.y, box.x), mask[inner.slices]
    step = 1 << (work.level - region.level)
    if step > 1:
        mask = mask.repeat(step, 1).repeat(step, 0)  # columns first takes half the time
    y, x = (
        ((corner << work.level) + own - whole) >> region.level
        for corner, own, whole in (
            (box.y, work.roi.y, region.roi.y),
            (box.x, work.roi.x, region.roi.x),
        )
    )
    return Roi(y, x, *mask.shape), mask
