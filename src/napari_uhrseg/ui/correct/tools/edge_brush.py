"""Edge brush: a brush that takes entire superpixels, so that strokes end at borders."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_uhrseg.types import Roi
from napari_uhrseg.ui.correct.tools.tool import Gesture, Selected, Tool

if TYPE_CHECKING:
    from napari_uhrseg.engine.selection.superpixels import Ints
    from napari_uhrseg.engine.selection.work_area import Point, WorkArea


class EdgeBrush:
    """Selector of the superpixels that the brush touches."""

    def prepare(self, area: "WorkArea") -> "Ints":
        from napari_uhrseg.engine.selection.superpixels import superpixels

        return superpixels(area)

    def begin(self, prepared: "Ints", at: "Point") -> Callable[[Gesture], Selected]:
        from napari_uhrseg.engine.selection.outline import BrushWay
        from napari_uhrseg.engine.selection.superpixels import touched

        whole, way = Roi(0, 0, *prepared.shape), BrushWay(prepared.shape)

        def select(gesture: Gesture) -> Selected:
            painted = way.covered(gesture.points, gesture.radius)
            return whole, touched(prepared, painted)

        return select


TOOL = Tool(
    "Edge brush",
    "D",
    "Paint along borders: the brush takes entire superpixels, small regions that end "
    "at borders in the picture. [ and ] change its size.",
    "M2.5 17 L2.5 12 L6 9 L6 5 L10.5 2.5 M17 3 L11.5 9 M10 10.5 C7.5 10.5 9 13.5 6 14 "
    "C8 15.5 11.5 15 11.5 12.5 Z",
    selector=EdgeBrush(),
    cursor="circle",
)
