"""Classes, the legend of them, and the card of a checkpoint."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.types.model_spec import InputSpec, View, check_whole

# for classes whose colour nobody chose
COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4",
          "#f032e6", "#bfef45", "#9a6324", "#469990")  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class: its id in the store (1 to 255), and how people know it.

    ``source_value`` is its value in the masks it was trained from, ``former`` are
    names it had before.
    """

    id: int
    name: str
    color: str
    source_value: int | None = None
    former: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_whole("a class id", self.id)
        if self.id > 255:
            raise ValueError(f"class id {self.id} is outside 1 to 255")
        for what, value in (("name", self.name), ("color", self.color)):
            if not isinstance(value, str):
                raise ValueError(f"the {what} of class {self.id} is {value!r}, no text")
        if not re.fullmatch("#[0-9a-fA-F]{6}", self.color):
            raise ValueError(f"color {self.color!r} is not of the form #rrggbb")

    @property
    def rgb(self) -> tuple[int, int, int]:
        value = int(self.color[1:], 16)
        return value >> 16, value >> 8 & 255, value & 255

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it; without ``former`` where it has none, as it was once."""
        return {k: v for k, v in asdict(self).items() if k != "former" or v}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "former": tuple(data.get("former", ()))})


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
        """The class of that name, else one that had it before."""
        now = (c for c in self.classes if c.name == name)
        before = (c for c in self.classes if name in c.former)
        return next(now, None) or next(before, None)

    def spare_color(self) -> str:
        """A colour that no class has, as long as there is one."""
        taken = {c.color for c in self.classes}
        return next((c for c in COLORS if c not in taken), COLORS[0])

    def renamed(self, class_id: int, name: str) -> "Legend":
        """With another name for a class. Raises ValueError where it is taken."""
        if not name.strip():
            raise ValueError("a class needs a name")
        return self._with(
            class_id,
            lambda c: replace(
                c, name=name, former=tuple(n for n in (*c.former, c.name) if n != name)
            ),
        )

    def recolored(self, class_id: int, color: str) -> "Legend":
        return self._with(class_id, lambda c: replace(c, color=color))

    def _with(
        self, class_id: int, change: Callable[[LabelClass], LabelClass]
    ) -> "Legend":
        if class_id not in {c.id for c in self.classes}:
            raise ValueError(f"there is no class {class_id}")
        changed = [change(c) if c.id == class_id else c for c in self.classes]
        return Legend(tuple(changed))

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
    ``limits`` says what it is not good for.
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
    limits: str = ""
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
            legend = Legend(
                tuple(LabelClass.from_dict(c) for c in data["legend"]["classes"])
            )
            plain = {k: v for k, v in data.items() if k not in ("legend", "spec")}
            _check_plain(plain)
            return cls(legend=legend, spec=_spec(data["spec"]), **plain)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"The checkpoint's card is damaged: {error}.",
                "Get the file again from where it came from.",
            ) from error


def _spec(data: Mapping[str, Any]) -> InputSpec:
    """Of JSON, which has lists where there are tuples here."""
    found = dict(data)
    found["views"] = {k: View(**v) for k, v in found["views"].items()}
    for key in ("value_range", "mean", "std"):
        if isinstance(found.get(key), list):
            found[key] = tuple(found[key])
    return InputSpec(**found)


def _check_plain(data: Mapping[str, Any]) -> None:
    """Raises ValueError, with the field's name, where one is of another type."""
    for name, value in data.items():
        if name == "format_version":
            continue
        if name in ("arguments", "metrics"):
            fits, wanted = isinstance(value, Mapping), "a table of names and values"
        else:
            fits = isinstance(value, str) or (name == "parent" and value is None)
            wanted = "a text"
        if not fits:
            raise ValueError(f"{name} is {value!r}, not {wanted}")
