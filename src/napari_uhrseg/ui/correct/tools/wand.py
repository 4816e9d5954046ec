"""Wand: the mouse grows a region of similar colour from the pressed pixel."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_uhrseg.ui.correct.tools.tool import Gesture, Selected, Tool

if TYPE_CHECKING:
    from napari_uhrseg.engine.selection.wand import WandPicture
    from napari_uhrseg.engine.selection.work_area import Point, WorkArea

TOLERANCE = 0.1  # of a click, of the distance of black and white


class Wand:
    """Selector of the connected pixels of similar colour."""

    def prepare(self, area: "WorkArea") -> "WandPicture":
        from napari_uhrseg.engine.selection.wand import wand_picture

        return wand_picture(area)

    def begin(
        self, prepared: "WandPicture", at: "Point"
    ) -> Callable[[Gesture], Selected]:
        from napari_uhrseg.engine.selection.wand import grow, wand_seed

        seed = wand_seed(prepared, at)
        return lambda gesture: (seed.box, grow(seed, TOLERANCE * gesture.tolerance))


TOOL = Tool(
    "Wand",
    "W",
    "Press in a region of similar colour. Drag right for more, left for less; [ and ] "
    "change the sensitivity.",
    "M3 17 L11.5 8.5 M14 2 L14 5 M14 8.5 L14 11 M9.5 6.5 L12 6.5 M16 6.5 L19 6.5 "
    "M10.8 3.3 L12.3 4.8 M17.2 3.3 L15.7 4.8 M17.2 9.7 L15.7 8.2",
    selector=Wand(),
)
