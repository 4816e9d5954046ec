"""The values that pass between the layers: frozen, without torch, Qt or files.

Geometry is in pixels, y before x. "Level-0 pixels" are those of the full image;
"run pixels" are those of the scale a run works at (level-0 pixels times 1/scale).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import CheckpointError

Labels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Roi:
    """A rectangle of pixels; may reach outside the image."""

    y: int
    x: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ValueError(f"a Roi cannot have a negative side: {self}")

    @property
    def bottom(self) -> int:
        return self.y + self.height

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def center(self) -> tuple[float, float]:
        return self.y + self.height / 2, self.x + self.width / 2

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y, self.bottom), slice(self.x, self.right)

    def intersect(self, other: "Roi") -> "Roi":
        """The common rectangle; of area 0 where there is none."""
        y, x = max(self.y, other.y), max(self.x, other.x)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Roi(y, x, max(0, bottom - y), max(0, right - x))

    def contains(self, other: "Roi") -> bool:
        return (
            self.y <= other.y
            and self.x <= other.x
            and self.bottom >= other.bottom
            and self.right >= other.right
        )

    def shift(self, dy: int, dx: int) -> "Roi":
        return Roi(self.y + dy, self.x + dx, self.height, self.width)

    def grow(self, margin: int) -> "Roi":
        return Roi(
            self.y - margin,
            self.x - margin,
            self.height + 2 * margin,
            self.width + 2 * margin,
        )

    def align(self, step: int) -> "Roi":
        """The smallest rectangle on multiples of ``step`` that holds this one."""
        y, x = self.y // step * step, self.x // step * step
        bottom, right = -(-self.bottom // step) * step, -(-self.right // step) * step
        return Roi(y, x, bottom - y, right - x)


@dataclass(frozen=True, slots=True)
class Polygon:
    """A drawn shape: its corners (y, x) in level-0 pixels."""

    corners: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.corners) < 3:
            raise ValueError("a polygon needs at least three corners")

    @property
    def bounds(self) -> Roi:
        ys = [y for y, _ in self.corners]
        xs = [x for _, x in self.corners]
        y, x = int(np.floor(min(ys))), int(np.floor(min(xs)))
        return Roi(y, x, int(np.ceil(max(ys))) - y, int(np.ceil(max(xs))) - x)


Region = Roi | Polygon


@dataclass(frozen=True, slots=True)
class View:
    """What a network looks at around a window.

    Parameters
    ----------
    extent
        Side of the ground covered, in run pixels, centred on the window; or
        ``"frame"`` for all of a frame, or of the crop in its place in training.
    size
        Side in pixels of what is fed to the network; ``None``: a pixel fed for
        each run pixel, the only choice for a frame.
    off_centre
        In training its centre is anywhere in the window, in runs at the centre.
    """

    extent: int | Literal["frame"]
    size: int | None = None
    off_centre: bool = False

    def __post_init__(self) -> None:
        if self.extent == "frame" and self.size is not None:
            raise ValueError("a frame is fed at its own size")

    @property
    def side(self) -> int:
        """Pixels fed a side; for views of a window."""
        if self.extent == "frame":
            raise ValueError("a frame has no fixed size")
        return self.extent if self.size is None else self.size

    def __str__(self) -> str:
        if self.extent == "frame":
            return "the whole frame"
        fed = "" if self.side == self.extent else f" → {self.side}"
        return f"{self.extent}{fed} px"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a model needs to see. The engine reads this and nothing else.

    Parameters
    ----------
    views
        Name (``local``, ``surrounding``, ``overview``) to view.
    window
        Side of the square that one forward pass labels, in run pixels; where there
        are frames, of the crop that is learnt from in a frame's place.
    channels
        Number of bands fed to the network.
    value_range
        Pixel values mapped to 0 and 1 before ``mean`` and ``std``; ``None``
        takes the range of the image (0 to 255 for 8-bit, else its bands' range).
    mean, std
        Per channel, after ``value_range``.
    pixel_size
        Metres a pixel covered in training; ``None`` where unknown.
    window_overlap
        Pixels two neighbouring windows share unless the person chooses.
    placement
        ``"shift"``: the last window is moved inward; ``"even"``: evenly spread.
    merge
        Weights of overlapping windows: all alike, or falling to the borders.
    padding
        How ground beyond the image is made up.
    frame
        For models that work on frames: the side of the largest one in run pixels.
        ``None``: the model works on windows.
    frame_overlap
        Width in run pixels of the seam in which two frames are blended.
    minimum, divisor
        Of frames: the smallest side, and what sides must be multiples of.
    """

    views: Mapping[str, View]
    window: int
    channels: int = 3
    value_range: tuple[float, float] | None = None
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    pixel_size: float | None = None
    window_overlap: int = 0
    placement: Literal["shift", "even"] = "shift"
    merge: Literal["uniform", "taper"] = "uniform"
    padding: Literal["reflect", "edge", "zero"] = "reflect"
    frame: int | None = None
    frame_overlap: int = 128
    minimum: int = 64
    divisor: int = 1

    def __post_init__(self) -> None:
        if not self.views:
            raise ValueError("a model must look at something: no views")
        if self.window < 1 or not 0 <= self.window_overlap < self.window:
            raise ValueError(
                f"window {self.window} with overlap {self.window_overlap} is impossible"
            )
        frames = [name for name, v in self.views.items() if v.extent == "frame"]
        if bool(frames) != (self.frame is not None):
            raise ValueError("a frame's side is given where a view is of a frame")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std must have {self.channels} values each")


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class: its id in the store (1 to 255), and how people know it.

    ``source_value`` is its value in the masks it was trained from.
    """

    id: int
    name: str
    color: str
    source_value: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.id <= 255:
            raise ValueError(f"class id {self.id} is outside 1 to 255")
        if len(self.color) != 7 or self.color[0] != "#":
            raise ValueError(f"color {self.color!r} is not of the form #rrggbb")

    @property
    def rgb(self) -> tuple[int, int, int]:
        value = int(self.color[1:], 16)
        return value >> 16, value >> 8 & 255, value & 255


@dataclass(frozen=True, slots=True)
class Legend:
    """The classes of a store or a checkpoint, ids and names unique."""

    classes: tuple[LabelClass, ...]

    def __post_init__(self) -> None:
        for what in ("id", "name"):
            values = [getattr(c, what) for c in self.classes]
            if len(set(values)) != len(values):
                raise ValueError(f"the legend uses a class {what} twice: {values}")

    def __iter__(self) -> Iterator[LabelClass]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    def named(self, name: str) -> LabelClass | None:
        return next((c for c in self.classes if c.name == name), None)

    def merged(self, other: "Legend") -> "Legend":
        """The union by name: the other's classes that lack here get new ids."""
        free = max((c.id for c in self.classes), default=0) + 1
        new = [c for c in other if self.named(c.name) is None]
        if free + len(new) > 256:
            raise ValueError("a label store holds at most 255 classes")
        added = tuple(
            LabelClass(free + i, c.name, c.color, c.source_value)
            for i, c in enumerate(new)
        )
        return Legend(self.classes + added)


@dataclass(frozen=True, slots=True)
class Card:
    """What a checkpoint says of itself: JSON in the safetensors header.

    ``model`` names an entry of the model registry, ``arguments`` are those of
    its constructor; the class k (from 0) of the network is ``legend.classes[k]``.
    """

    model: str
    arguments: Mapping[str, Any]
    legend: Legend
    spec: InputSpec
    name: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""
    trained_on: str = ""
    command: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent: str | None = None
    format_version: int = 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The card, checked. Raises CheckpointError where a field is wrong."""
        try:
            version = data.get("format_version")
            if version != 1:
                raise CheckpointError(
                    f"The card has format version {version}; this program reads 1.",
                    "Update napari-uhrseg, or save the checkpoint again.",
                )
            legend = Legend(tuple(LabelClass(**c) for c in data["legend"]["classes"]))
            spec = dict(data["spec"])
            spec["views"] = {k: View(**v) for k, v in spec["views"].items()}
            for key in ("value_range", "mean", "std"):
                if spec.get(key) is not None:
                    spec[key] = tuple(float(v) for v in spec[key])
            plain = {k: v for k, v in data.items() if k not in ("legend", "spec")}
            return cls(legend=legend, spec=InputSpec(**spec), **plain)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"The checkpoint's card is damaged: {error}.",
                "Get the file again from where it came from.",
            ) from error


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """What the person may choose for a run; ``None`` leaves it to the plan.

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
    bands: tuple[int, ...] | None = field(default=None, metadata={"title": "Bands"})
    scale: float | None = field(
        default=None,
        metadata={
            "title": "Scale",
            "tooltip": "Image pixels per network pixel: trained pixel size over the "
            "image's. 2 for a 40x slide and a 20x network.",
        },
    )
    value_range: tuple[float, float] | None = field(
        default=None, metadata={"title": "Value range"}
    )
    skip_glass: bool = field(
        default=True,
        metadata={
            "title": "Skip empty glass",
            "tooltip": "Slides only: blocks without tissue are not run.",
        },
    )
    batch_size: int | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a training: which parameters train, how fast, how long.

    ``trains`` are prefixes of parameter names (empty: all), ``name`` says to the
    method which of its stages this is.
    """

    steps: int
    learning_rate: float
    trains: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a method is trained by its paper; a form may change the numbers.

    ``schedule`` is the learning rate's course over a stage.
    """

    stages: tuple[Stage, ...]
    batch_size: int
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "poly"] = "cosine"
    clip: float | None = None


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
    skip_glass: bool
    batch_size: int
    precision: str
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
                Polygon(tuple((float(y), float(x)) for y, x in region["corners"]))
                if "corners" in region
                else Roi(**region)
            )
        for key in ("class_map", "bands", "value_range"):
            values[key] = tuple(values[key])
        return cls(**values)
