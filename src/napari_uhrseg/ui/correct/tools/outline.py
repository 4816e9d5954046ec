"""Outline: a freehand line whose inside is filled."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_uhrseg.ui.correct.tools.tool import Gesture, Selected, Tool

if TYPE_CHECKING:
    from napari_uhrseg.engine.selection.work_area import Point, WorkArea


class Outline:
    """Selector of the pixels inside the line of the mouse."""

    def prepare(self, area: "WorkArea") -> tuple[int, int]:
        return area.shape

    def begin(
        self, prepared: tuple[int, int], at: "Point"
    ) -> Callable[[Gesture], Selected]:
        from napari_uhrseg.engine.selection.outline import inside

        return lambda gesture: inside(gesture.points, prepared)


TOOL = Tool(
    "Outline",
    "O",
    "Draw around a region with the mouse button pressed. Its inside is filled when you "
    "release the button.",
    "M10 4 C15 2 18.5 6 17 10 C15.5 14 12.5 13 11 15.5 "
    "C9 18.5 3 17 3 11.5 C3 8 5.5 5.5 7.5 4.8",
    selector=Outline(),
)
