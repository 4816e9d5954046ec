"""Values that pass between the layers: frozen, without torch, Qt or files.

Geometry is in pixels, y before x. "Level-0 pixels" are those of the full image;
"run pixels" are those of the scale a run works at (level-0 pixels times 1/scale).
"""

from napari_uhrseg.types.card import Card
from napari_uhrseg.types.corrections import (
    CorrectedRegion,
    Numbering,
    Stroke,
    UncertainRegion,
)
from napari_uhrseg.types.finetuning import FineTuneSettings, TrainingSummary
from napari_uhrseg.types.groundtruth import HELD_OUT, IGNORED
from napari_uhrseg.types.legend import COLORS, LabelClass, Legend
from napari_uhrseg.types.limits import OPEN_BLOCKS, SOFTMAX_ROWS, Limits
from napari_uhrseg.types.model_spec import InputSpec, Recipe, Stage, View
from napari_uhrseg.types.regions import MultiPolygon, Polygon, Region, Roi
from napari_uhrseg.types.segmentation import (
    Block,
    BoolMask,
    Labels,
    Precision,
    Run,
    SegmentSettings,
)

__all__ = [
    "COLORS",
    "HELD_OUT",
    "IGNORED",
    "OPEN_BLOCKS",
    "SOFTMAX_ROWS",
    "Block",
    "BoolMask",
    "Card",
    "CorrectedRegion",
    "FineTuneSettings",
    "InputSpec",
    "LabelClass",
    "Labels",
    "Legend",
    "Limits",
    "MultiPolygon",
    "Numbering",
    "Polygon",
    "Precision",
    "Recipe",
    "Region",
    "Roi",
    "Run",
    "SegmentSettings",
    "Stage",
    "Stroke",
    "TrainingSummary",
    "UncertainRegion",
    "View",
]
