"""Smart fill: a click fills the region with similar features of an encoder."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari_uhrseg.types import Roi
from napari_uhrseg.ui.correct.tools.tool import Gesture, Selected, Tool
from napari_uhrseg.ui.workers.import_torch import load_torch

if TYPE_CHECKING:
    from napari_uhrseg.engine.selection.smart_fill import FeatureRegions
    from napari_uhrseg.engine.selection.work_area import Point, WorkArea

TOLERANCE = 0.4  # of a click, of the distance of different superpixels


class SmartFill:
    """Selector of the connected superpixels of similar features."""

    def prepare(self, area: "WorkArea") -> "FeatureRegions":
        load_torch()
        import torch

        from napari_uhrseg.engine.network.device import cpu_threads
        from napari_uhrseg.engine.selection.smart_fill import feature_regions
        from napari_uhrseg.engine.selection.superpixels import superpixels

        with cpu_threads(max(1, torch.get_num_threads() - 1)):  # Qt needs one
            return feature_regions(area, superpixels(area))

    def begin(
        self, prepared: "FeatureRegions", at: "Point"
    ) -> Callable[[Gesture], Selected]:
        from napari_uhrseg.engine.selection.smart_fill import select_similar

        whole = Roi(0, 0, *prepared.segments.shape)
        return lambda gesture: (
            whole,
            select_similar(prepared, at, TOLERANCE * gesture.tolerance),
        )


TOOL = Tool(
    "Smart fill",
    "S",
    "Click a region that looks alike to a pretrained network. Drag right for more, "
    "left for less; [ and ] change the sensitivity.",
    "M10 3 C14.5 3 17 5.5 17 9.5 C17 14 14 17 9.5 17 C5.5 17 3 14 3 10 C3 5.5 6 3 10 3 "
    "M7 10 L13 10 M10 7 L10 13",
    selector=SmartFill(),
)
