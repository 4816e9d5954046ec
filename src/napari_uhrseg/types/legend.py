"""Classes of labels, and the legend that lists them."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from napari_uhrseg.types.model_spec import check_whole

# colours of classes for which no colour is given
COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4",
          "#f032e6", "#bfef45", "#9a6324", "#469990")  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelClass:
    """One class of a label store or a checkpoint.

    Parameters
    ----------
    id
        Value in the label store, 1 to 255.
    name
        Name for users.
    color
        Colour as ``#rrggbb``.
    source_value
        Value in the masks that a checkpoint was trained on.
    former_names
        Names that the class had before it was renamed.
    """

    id: int
    name: str
    color: str
    source_value: int | None = None
    former_names: tuple[str, ...] = ()

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
        """Red, green and blue, 0 to 255 each."""
        value = int(self.color[1:], 16)
        return value >> 16, value >> 8 & 255, value & 255

    def to_dict(self) -> dict[str, Any]:
        """Return the class for JSON, without ``former_names`` if there are none."""
        return {k: v for k, v in asdict(self).items() if k != "former_names" or v}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the class of :meth:`to_dict`."""
        return cls(**{**data, "former_names": tuple(data.get("former_names", ()))})


@dataclass(frozen=True, slots=True)
class Legend:
    """Classes of a label store or a checkpoint; ids and names are unique."""

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
        """Return the class with this name, otherwise one with this former name."""
        now = (c for c in self.classes if c.name == name)
        before = (c for c in self.classes if name in c.former_names)
        return next(now, None) or next(before, None)

    def spare_color(self) -> str:
        """Return a colour that no class has, or the first colour if all are used."""
        taken = {c.color for c in self.classes}
        return next((c for c in COLORS if c not in taken), COLORS[0])

    def renamed(self, class_id: int, name: str) -> "Legend":
        """Return the legend with another name of a class.

        Raises
        ------
        ValueError
            If the name is empty or used, or the class does not exist.
        """
        if not name.strip():
            raise ValueError("a class needs a name")

        def rename(old: LabelClass) -> LabelClass:
            former = tuple(n for n in (*old.former_names, old.name) if n != name)
            return replace(old, name=name, former_names=former)

        return self._with(class_id, rename)

    def recolored(self, class_id: int, color: str) -> "Legend":
        """Return the legend with another colour of a class."""
        return self._with(class_id, lambda c: replace(c, color=color))

    def _with(
        self, class_id: int, change: Callable[[LabelClass], LabelClass]
    ) -> "Legend":
        if class_id not in {c.id for c in self.classes}:
            raise ValueError(f"there is no class {class_id}")
        changed = [change(c) if c.id == class_id else c for c in self.classes]
        return Legend(tuple(changed))

    def without(self, ids: Collection[int]) -> "Legend":
        """Return the classes whose id is not among these."""
        return Legend(tuple(c for c in self.classes if c.id not in ids))

    def merged(self, other: "Legend", above: int = 0) -> "Legend":
        """Return the union by name. Classes that are new here get new ids.

        The new ids are larger than all present ones and than ``above``.

        Raises
        ------
        ValueError
            If the union has more than 255 ids.
        """
        free = max((above, *(c.id for c in self.classes))) + 1
        new = [c for c in other if self.named(c.name) is None]
        if free + len(new) > 256:
            raise ValueError("a label store holds at most 255 classes")
        added = tuple(replace(c, id=free + i) for i, c in enumerate(new))
        return Legend(self.classes + added)


def with_merge(
    legend: Legend, aliases: Mapping[int, int], class_id: int, into: int
) -> dict[int, int]:
    """Return the merges of classes after a class is merged into another one.

    Parameters
    ----------
    legend
        All classes, including merged ones.
    aliases
        Id of each merged class to the id of the displayed class.
    class_id, into
        The class to merge, and the one that is displayed. The same class twice ends
        the merge.

    Raises
    ------
    ValueError
        If one of the classes is unknown, or ``into`` is displayed as the class.
    """
    found = {k: v for k, v in aliases.items() if k != class_id}
    if class_id != into:
        into = found.get(into, into)
        found = {k: into if v == class_id else v for k, v in found.items()}
        found[class_id] = into
    if found.get(into) or not {class_id, into} <= {c.id for c in legend}:
        raise ValueError(f"class {class_id} cannot be merged into {into}")
    return found


def deleted_ids(
    legend: Legend, aliases: Mapping[int, int], class_id: int, into: int
) -> tuple[frozenset[int], int]:
    """Return the classes that a deletion removes, and the class that replaces them.

    The classes that are displayed as the class are removed with it.

    Parameters
    ----------
    legend
        All classes, including merged ones.
    aliases
        Id of each merged class to the id of the displayed class.
    class_id
        Id of the class to delete.
    into
        Id of the class that the labels become; 0: no label.

    Returns
    -------
    tuple
        Ids of the removed classes, and the id as which ``into`` is displayed.

    Raises
    ------
    ValueError
        If one of the classes is unknown, or ``into`` is removed too.
    """
    into = aliases.get(into, into)
    gone = frozenset({class_id, *(k for k, v in aliases.items() if v == class_id)})
    known = {c.id for c in legend}
    if class_id not in known or into in gone or into not in known | {0}:
        raise ValueError(f"class {class_id} cannot become class {into}")
    return gone, into
