"""Open, segment and correct images that are too large to fit in memory.

Public names are imported on first use. ``import napari_uhrseg`` loads neither torch nor
Qt nor napari.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from napari_uhrseg._version import __version__

if TYPE_CHECKING:
    from napari_uhrseg.engine.events import Progress
    from napari_uhrseg.engine.finetuning.finetune import fine_tune
    from napari_uhrseg.engine.inference.segment import segment
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.engine.planning.plan import make_plan as plan
    from napari_uhrseg.io.corrections.corrections import Corrections
    from napari_uhrseg.io.export import export
    from napari_uhrseg.io.export.class_areas import areas
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.io.tissue.detect import detect_tissue
    from napari_uhrseg.models.checkpoint import load_checkpoint
    from napari_uhrseg.types import (
        FineTuneSettings,
        Polygon,
        Roi,
        SegmentSettings,
        Stroke,
        TissueMask,
        TissueSettings,
    )

_HOMES = {
    "Corrections": "io.corrections.corrections",
    "FineTuneSettings": "types",
    "Image": "io.image.image",
    "LabelStore": "io.labels.store",
    "MemoryBudget": "engine.network.device",
    "Polygon": "types",
    "Progress": "engine.events",
    "Roi": "types",
    "SegmentSettings": "types",
    "Stroke": "types",
    "TissueMask": "types",
    "TissueSettings": "types",
    "areas": "io.export.class_areas",
    "detect_tissue": "io.tissue.detect",
    "export": "io.export",
    "fine_tune": "engine.finetuning.finetune",
    "load_checkpoint": "models.checkpoint",
    "open_image": "io.open",
    "plan": "engine.planning.plan",
    "segment": "engine.inference.segment",
}
_INSIDE = {"plan": "make_plan"}  # names that differ in their module

__all__ = [
    "Corrections",
    "FineTuneSettings",
    "Image",
    "LabelStore",
    "MemoryBudget",
    "Polygon",
    "Progress",
    "Roi",
    "SegmentSettings",
    "Stroke",
    "TissueMask",
    "TissueSettings",
    "__version__",
    "areas",
    "detect_tissue",
    "export",
    "fine_tune",
    "load_checkpoint",
    "open_image",
    "plan",
    "segment",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, _INSIDE.get(name, name))


def __dir__() -> list[str]:
    return __all__
