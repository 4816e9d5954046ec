"""One segmentation: what is chosen for it, what it writes, its record."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types.limits import Limits
from napari_uhrseg.types.regions import Polygon, Region, Ring, Roi

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """What the person may choose for a run; ``None`` leaves it to the plan.

    ``frame`` is the side of frames that is tried first, that of a run to go on with.
    ``limits`` bound the blocks of the run.

    The metadata of each field makes the form; ``dataclasses.asdict`` the record.
    """

    device: str = field(default="auto", metadata={"title": "Device"})
    precision: Literal["auto", "fp32", "bf16", "fp16"] = field(
        default="auto",
        metadata={
            "title": "Precision",
            "tooltip": "auto: bf16 where the device is made for it, else fp32",
        },
    )
    region: Region | None = field(default=None, metadata={"title": "Where"})
    overlap: int | None = field(
        default=None,
        metadata={
            "title": "Overlap",
            "tooltip": "Pixels that neighbouring windows share. More is slower and "
            "hides seams better.",
            "minimum": 0,
        },
    )
    bands: tuple[int, ...] | None = field(
        default=None,
        metadata={
            "title": "Bands",
            "tooltip": "Bands the network gets, counted from 0, as many as it takes.",
        },
    )
    scale: float | None = field(
        default=None,
        metadata={
            "title": "Scale",
            "tooltip": "Image pixels per network pixel: trained pixel size over the "
            "image's. 2 for a 40x slide and a 20x network.",
        },
    )
    value_range: tuple[float, float] | None = field(
        default=None,
        metadata={
            "title": "Value range",
            "tooltip": "The image's values for black and white: two numbers.",
        },
    )
    skip_background: bool = field(
        default=True,
        metadata={
            "title": "Skip background",
            "tooltip": "Slides only: blocks without tissue are not run.",
        },
    )
    batch_size: int | None = None
    threads: int | None = None
    frame: int | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Block:
    """A finished rectangle of output, clipped to the image.

    ``labels`` are class ids of the store (0: not labelled), ``confidence`` the
    top-2 margin as 1 to 255 (0: no answer); both uint8 of the roi's shape.
    """

    roi: Roi
    labels: Labels
    confidence: Labels


@dataclass(frozen=True, slots=True)
class Run:
    """The record of one run in a store; never changed once written.

    Everything that decides which labels come out is here, so that another
    process can finish the run and that each chunk's origin can be told.
    """

    id: int
    image_path: str
    image_fingerprint: str
    model: str
    checkpoint: str
    checkpoint_hash: str
    class_map: tuple[int, ...]  # network channel -> class id of the store
    bands: tuple[int, ...]
    scale: float
    value_range: tuple[float, float]
    window: int
    overlap: int
    placement: str
    merge: str
    region: Region | None
    skip_background: bool
    batch_size: int
    precision: Literal["fp32", "bf16", "fp16"]
    plane: Mapping[str, int] = field(default_factory=dict)
    created: str = ""
    version: str = ""

    _FREE = ("id", "batch_size", "created", "version", "region", "image_path",
             "checkpoint")  # fmt: skip

    def same_settings(self, other: "Run") -> bool:
        """True where both would give a chunk they share the same labels."""
        mine, theirs = asdict(self), asdict(other)
        return all(mine[k] == theirs[k] for k in mine if k not in self._FREE)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        values = dict(data)
        region = values["region"]
        if region is not None:
            values["region"] = (
                Polygon(
                    _ring(region["corners"]),
                    tuple(_ring(r) for r in region.get("holes", ())),
                )
                if "corners" in region
                else Roi(**region)
            )
        for key in ("class_map", "bands", "value_range"):
            values[key] = tuple(values[key])
        return cls(**values)


def _ring(corners: Iterable[tuple[float, float]]) -> Ring:
    return tuple((float(y), float(x)) for y, x in corners)
