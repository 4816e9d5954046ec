"""Interface of the tools: what they prepare in a worker, and select under the mouse."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from napari_uhrseg.types import BoolMask, Roi

if TYPE_CHECKING:
    from napari_uhrseg.engine.selection.work_area import Point, WorkArea

Selected = tuple[Roi, BoolMask]
"""Rectangle in pixels of the work area, and the selected ones in it."""


@dataclass(frozen=True, slots=True)
class Gesture:
    """Way of the mouse while its button is pressed.

    Parameters
    ----------
    points
        Rows and columns in pixels of the work area; the first one was pressed.
    radius
        Radius of the brush in pixels of the work area.
    tolerance
        Factor of the tool's tolerance: 1, changed by the keys and by the drag.
    """

    points: "tuple[Point, ...]"
    radius: float
    tolerance: float


class Selector(Protocol):
    """Functions of a tool that selects regions."""

    def prepare(self, area: "WorkArea") -> Any:
        """Return what the tool needs of a work area, in a worker. It is cached."""

    def begin(self, prepared: Any, at: "Point") -> Callable[[Gesture], Selected]:
        """Return the function that selects the region of a gesture.

        It takes less than 50 ms, because it runs on the Qt thread.

        Parameters
        ----------
        prepared
            Result of `prepare`.
        at
            Pressed row and column in pixels of the work area.
        """


@dataclass(frozen=True, slots=True)
class Tool:
    """Tool with a button and a key.

    Parameters
    ----------
    title
        Name of the tool.
    key
        Key that selects the tool while the user corrects.
    tip
        Sentences that describe the use of the tool.
    icon
        Path of an SVG image of 20 x 20 pixels, whose lines are drawn.
    mode
        Mode of napari's labels layer.
    selector
        Functions of a tool that selects regions. None: napari's own tool.
    cursor
        Cursor on the canvas: ``circle`` has the size of the brush.
    """

    title: str
    key: str
    tip: str
    icon: str
    mode: str = "fill"
    selector: Selector | None = None
    cursor: str = "cross"
