"""Types of a segmentation run: settings, output blocks, and the run's record."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types.limits import Limits
from napari_uhrseg.types.model_spec import PER_BAND, PerBand, ValueRange
from napari_uhrseg.types.regions import MultiPolygon, Polygon, Region, Ring, Roi
from napari_uhrseg.types.tissue import TissueMask

Labels = npt.NDArray[np.uint8]
BoolMask = npt.NDArray[np.bool_]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """Settings of a run; the plan chooses what is None.

    ``frame`` is the frame size in pixels to try first, that of the run to continue.
    ``limits`` bound the blocks of the run. ``class_names`` are pairs of a class of the
    network and a class of the labels, by name: an empty text gives no label, and the
    same name adds the class. ``add_classes`` adds all that the labels lack. With
    ``tissue``, only pixels of the mask get labels, windows without tissue do not run,
    and ``skip_background`` has no effect. The form of the window is built from the
    fields and their metadata.
    """

    device: str = field(default="auto", metadata={"title": "Device"})
    precision: Literal["auto", "fp32", "bf16", "fp16"] = field(
        default="auto",
        metadata={
            "title": "Precision",
            "tooltip": "auto: bf16 on devices that support it natively, else fp32.",
        },
    )
    region: Region | None = field(default=None, metadata={"title": "Region"})
    overlap: int | None = field(
        default=None,
        metadata={
            "title": "Overlap",
            "tooltip": "Pixels shared by neighbouring windows. A larger overlap hides "
            "seams better but is slower.",
            "minimum": 0,
        },
    )
    bands: tuple[int, ...] | None = field(
        default=None,
        metadata={
            "title": "Channels",
            "tooltip": "Image channels (bands) that the network gets, counted from 0, "
            "for example 0, 1, 2.",
        },
    )
    scale: float | None = field(
        default=None,
        metadata={
            "title": "Scale",
            "tooltip": "Image pixels per network pixel: pixel size of the training "
            "data divided by that of the image. For example 2 for a 40x slide and a "
            "network trained at 20x.",
        },
    )
    value_range: ValueRange | PerBand | None = field(
        default=None,
        metadata={
            "title": "Value range",
            "tooltip": "Image values that count as black and white: two numbers, for "
            "example 0, 4095, or two for each channel. per-band: the percentiles of "
            "each band, for bands of different brightness.",
            "multiple": 2,
            "words": (PER_BAND,),
        },
    )
    skip_background: bool = field(
        default=True,
        metadata={
            "title": "Skip empty",
            "tooltip": "Slides only: do not run blocks without tissue.",
        },
    )
    batch_size: int | None = None
    threads: int | None = None
    frame: int | None = None
    class_names: tuple[tuple[str, str], ...] = ()
    add_classes: bool = False
    tissue: TissueMask | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Block:
    """Finished rectangle of output, clipped to the image.

    ``labels`` are class ids of the store (0: not labelled), ``confidence`` is the
    top-2 margin as 1 to 255 (0: no prediction). Both are uint8 and as large as ``roi``.
    """

    roi: Roi
    labels: Labels
    confidence: Labels


@dataclass(frozen=True, slots=True)
class Run:
    """Record of one run in a store; never changed once written.

    It contains everything on which the labels depend. Another process can thus finish
    the run, and the origin of each chunk is known. ``tissue`` is the id of the tissue
    mask; empty without one.
    """

    id: int
    image_path: str
    image_fingerprint: str
    model: str
    checkpoint: str
    checkpoint_hash: str
    class_map: tuple[int, ...]  # network channel -> class id of the store, 0: none
    bands: tuple[int, ...]
    scale: float
    value_range: ValueRange
    window: int
    overlap: int
    placement: str
    merge: str
    region: Region | None
    skip_background: bool
    batch_size: int
    precision: Precision
    plane: Mapping[str, int] = field(default_factory=dict)
    created: str = ""
    version: str = ""
    tissue: str = ""

    _FREE = ("id", "batch_size", "created", "version", "region", "image_path",
             "checkpoint")  # fmt: skip

    @property
    def frame(self) -> int | None:
        """Return the largest side of a frame in run pixels; None for windows."""
        return self.window if self.placement == "frame" else None

    def same_settings(self, other: "Run") -> bool:
        """Return True if both runs give a shared chunk the same labels."""
        mine, theirs = asdict(self), asdict(other)
        return all(mine[k] == theirs[k] for k in mine if k not in self._FREE)

    def to_dict(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "tissue" or v}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        values = dict(data)
        region = values["region"]
        if region is not None:
            values["region"] = _region(region)
        for key in ("class_map", "bands", "value_range"):
            values[key] = tuple(values[key])
        return cls(**values)


def _region(data: Mapping[str, Any]) -> Region:
    if "polygons" in data:
        return MultiPolygon(tuple(_polygon(p) for p in data["polygons"]))
    return _polygon(data) if "corners" in data else Roi(**data)


def _polygon(data: Mapping[str, Any]) -> Polygon:
    holes = tuple(_ring(r) for r in data.get("holes", ()))
    return Polygon(_ring(data["corners"]), holes)


def _ring(corners: Iterable[tuple[float, float]]) -> Ring:
    return tuple((float(y), float(x)) for y, x in corners)
