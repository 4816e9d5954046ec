"""Open, segment and correct images too large for everything else.

The public names are imported on first use, so that ``import napari_uhrseg``
loads neither torch nor Qt nor napari.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_uhrseg.engine.device import MemoryBudget
    from napari_uhrseg.engine.plan import make_plan
    from napari_uhrseg.engine.segment import segment
    from napari_uhrseg.io.image import Image, open_image
    from napari_uhrseg.io.labels import LabelStore
    from napari_uhrseg.models.checkpoint import load_checkpoint
    from napari_uhrseg.types import Roi, SegmentSettings

__version__ = "0.1.0"

_HOMES = {
    "Image": "io.image",
    "LabelStore": "io.labels",
    "MemoryBudget": "engine.device",
    "Roi": "types",
    "SegmentSettings": "types",
    "load_checkpoint": "models.checkpoint",
    "make_plan": "engine.plan",
    "open_image": "io.image",
    "segment": "engine.segment",
}

__all__ = [
    "Image",
    "LabelStore",
    "MemoryBudget",
    "Roi",
    "SegmentSettings",
    "__version__",
    "load_checkpoint",
    "make_plan",
    "open_image",
    "segment",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
