"""Values that pass between the layers: frozen, without torch, Qt or files.

Geometry is in pixels, y before x. "Level-0 pixels" are those of the full image;
"run pixels" are those of the scale a run works at (level-0 pixels times 1/scale).
"""

from napari_uhrseg.types.annotation import AnnotationRegion
from napari_uhrseg.types.area_size import AreaSize
from napari_uhrseg.types.card import Card
from napari_uhrseg.types.clean_up import CleanUp
from napari_uhrseg.types.corrections import (
    CorrectedRegion,
    Numbering,
    Stroke,
    UncertainRegion,
)
from napari_uhrseg.types.finetuning import FineTuneSettings, TrainingSummary
from napari_uhrseg.types.groundtruth import HELD_OUT, IGNORED
from napari_uhrseg.types.legend import (
    COLORS,
    LabelClass,
    Legend,
    deleted_ids,
    with_merge,
)
from napari_uhrseg.types.limits import OPEN_BLOCKS, SOFTMAX_ROWS, Limits
from napari_uhrseg.types.model_spec import (
    PER_BAND,
    InputSpec,
    PerBand,
    Recipe,
    Stage,
    ValueRange,
    View,
    describe_range,
    value_pairs,
)
from napari_uhrseg.types.regions import MultiPolygon, Polygon, Region, Roi
from napari_uhrseg.types.segmentation import (
    Block,
    BoolMask,
    Labels,
    Precision,
    Run,
    SegmentSettings,
)
from napari_uhrseg.types.tissue import TISSUE_SIDE, TissueMask, TissueSettings

__all__ = [
    "COLORS",
    "HELD_OUT",
    "IGNORED",
    "OPEN_BLOCKS",
    "PER_BAND",
    "SOFTMAX_ROWS",
    "TISSUE_SIDE",
    "AnnotationRegion",
    "AreaSize",
    "Block",
    "BoolMask",
    "Card",
    "CleanUp",
    "CorrectedRegion",
    "FineTuneSettings",
    "InputSpec",
    "LabelClass",
    "Labels",
    "Legend",
    "Limits",
    "MultiPolygon",
    "Numbering",
    "PerBand",
    "Polygon",
    "Precision",
    "Recipe",
    "Region",
    "Roi",
    "Run",
    "SegmentSettings",
    "Stage",
    "Stroke",
    "TissueMask",
    "TissueSettings",
    "TrainingSummary",
    "UncertainRegion",
    "ValueRange",
    "View",
    "deleted_ids",
    "describe_range",
    "value_pairs",
    "with_merge",
]
