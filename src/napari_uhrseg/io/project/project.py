"""Values of a project: its images with their states, its classes and checkpoints."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any, Literal, Self, get_args

from napari_uhrseg.errors import ProjectError
from napari_uhrseg.types import LabelClass, Legend
from napari_uhrseg.units import counted

State = Literal["new", "segmented", "corrected", "reviewed"]
STATES: tuple[State, ...] = get_args(State)
FORMAT = "napari-uhrseg project"
FORMAT_VERSION = 1
LABEL_FOLDER = "labels"


@dataclass(frozen=True, slots=True)
class ProjectImage:
    """Image of a project.

    Parameters
    ----------
    path
        Path of the image, relative to the project's folder with ``/``, or absolute, or
        a URL. It identifies the image in the project.
    labels
        Path of the label store, of the same form.
    state
        State of the labels. ``reviewed`` is set by the user only.
    notes
        Notes of the user.
    """

    path: str
    labels: str
    state: State = "new"
    notes: str = ""

    @property
    def name(self) -> str:
        """File name of the image."""
        return PurePosixPath(self.path).name

    def to_dict(self) -> dict[str, Any]:
        """Return the image for JSON, without empty notes."""
        found = {"path": self.path, "labels": self.labels, "state": self.state}
        return {**found, "notes": self.notes} if self.notes else found


@dataclass(frozen=True, slots=True)
class Project:
    """Images of one task, with one set of classes.

    Parameters
    ----------
    images
        The images in the order of the user; their paths are unique.
    legend
        Classes of all label stores.
    aliases
        Id of a merged class to the id of the displayed class.
    checkpoints
        Paths of checkpoints, the one used last at the end.
    deleted
        Name of a deleted class to the name of the class that its labels become, or to
        an empty text. Label stores that still have the class get this deletion.
    """

    images: tuple[ProjectImage, ...] = ()
    legend: Legend = field(default_factory=lambda: Legend(()))
    aliases: Mapping[int, int] = field(default_factory=dict)
    checkpoints: tuple[str, ...] = ()
    deleted: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_unique("an image", [i.path for i in self.images])
        _check_unique("a label store", [i.labels for i in self.images])
        known = {c.id for c in self.legend}
        if not {*self.aliases, *self.aliases.values()} <= known:
            raise ValueError("a merged class is not in the classes")

    def image(self, path: str) -> ProjectImage:
        """Return the image with a path.

        Raises
        ------
        ProjectError
            If the project has no such image.
        """
        found = next((i for i in self.images if i.path == path), None)
        if found is None:
            raise ProjectError(
                f"The project has no image {path}.",
                "List the images with: napari-uhrseg project list.",
            )
        return found

    def chosen(
        self, patterns: Sequence[str] = (), states: Iterable[str] = ()
    ) -> tuple[ProjectImage, ...]:
        """Return the images whose path or name matches, in the project's order.

        Parameters
        ----------
        patterns
            Paths, file names or patterns such as ``*_north.tif``; empty: every image.
        states
            States of the images; empty: every state.

        Raises
        ------
        ProjectError
            If a pattern matches no image.
        """
        kept = {i.path for i in self.images} if not patterns else set[str]()
        for pattern in patterns:
            kept |= self._matching(pattern)
        wanted = set(states) or set(STATES)
        return tuple(i for i in self.images if i.path in kept and i.state in wanted)

    def _matching(self, pattern: str) -> set[str]:
        """Return the paths of the images that match a pattern; at least one."""
        found = {i.path for i in self.images if _matches(i, pattern)}
        if not found:
            raise ProjectError(
                f"No image of the project matches {pattern}.",
                "List the images with: napari-uhrseg project list.",
            )
        return found

    def with_images(self, added: Iterable[ProjectImage]) -> Self:
        """Return the project with further images; those with a known path are left."""
        known = {i.path for i in self.images}
        new = tuple(i for i in added if i.path not in known)
        return replace(self, images=self.images + new)

    def with_image(self, path: str, **changes: Any) -> Self:
        """Return the project with changed fields of an image.

        Raises
        ------
        ProjectError
            If the project has no such image.
        """
        new = replace(self.image(path), **changes)
        images = tuple(new if i.path == path else i for i in self.images)
        return replace(self, images=images)

    def without(self, path: str) -> Self:
        """Return the project without an image; its files are not affected."""
        return replace(self, images=tuple(i for i in self.images if i.path != path))

    def with_classes(self, legend: Legend) -> Self:
        """Return the project with further classes, which are matched by name.

        A deleted class with one of these names exists again.

        Raises
        ------
        ProjectError
            If there would be more than 255 classes.
        """
        try:
            whole = self.legend.merged(legend)
        except ValueError as error:
            raise ProjectError(
                "The project would have more than 255 classes.",
                "Delete classes with: napari-uhrseg project classes --delete.",
            ) from error
        names = {c.name for c in whole}
        deleted = {k: v for k, v in self.deleted.items() if k not in names}
        return replace(self, legend=whole, deleted=deleted)

    def with_network(self, network: Legend, names: Mapping[str, str]) -> Self:
        """Return the project with the classes of a network that it lacks.

        Deleted classes stay deleted; see `network_names`.

        Parameters
        ----------
        network
            Classes of the network.
        names
            Name of a class of the network to the name of the class of its labels, as
            the user has chosen. A class with another name is not added.
        """
        chosen = {**self.network_names(network), **names}
        return self.with_classes(
            Legend(tuple(c for c in network if chosen.get(c.name, c.name) == c.name))
        )

    def network_names(self, network: Legend) -> dict[str, str]:
        """Return what the deleted classes of a network become; empty: no label."""
        return {
            c.name: self.successor(c.name) for c in network if c.name in self.deleted
        }

    def successor(self, name: str) -> str:
        """Return the class that a deleted class becomes; empty: no label."""
        seen = set[str]()
        while name in self.deleted and name not in seen:
            seen.add(name)
            name = self.deleted[name]
        return "" if name in seen else name

    def with_checkpoint(self, path: str) -> Self:
        """Return the project with a checkpoint as the one used last."""
        others = tuple(c for c in self.checkpoints if c != path)
        return replace(self, checkpoints=(*others, path))

    def unused_labels(self, path: str, taken: Iterable[str] = ()) -> str:
        """Return a label store for an image, which no other image has.

        Parameters
        ----------
        path
            Path of the image.
        taken
            Further label stores that are used.
        """
        used = {i.labels for i in self.images} | set(taken)
        name = PurePosixPath(path).name
        for number in range(1, len(used) + 2):
            suffix = "" if number == 1 else f"_{number}"
            found = f"{LABEL_FOLDER}/{name}{suffix}.labels.zarr"
            if found not in used:
                break
        return found

    def summary(self) -> str:
        """Return one line: "6 images: 2 new, 3 corrected, 1 reviewed"."""
        counts = {s: sum(i.state == s for i in self.images) for s in STATES}
        each = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
        images = counted(len(self.images), "image")
        return f"{images}: {each}" if each else images

    def to_dict(self) -> dict[str, Any]:
        """Return the project for JSON."""
        merged = {str(k): v for k, v in self.aliases.items()}
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "classes": [_class_dict(c) for c in self.legend],
            **({"merged": merged} if merged else {}),
            **({"deleted": dict(self.deleted)} if self.deleted else {}),
            "checkpoints": list(self.checkpoints),
            "images": [i.to_dict() for i in self.images],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the project of :meth:`to_dict`, which fits the schema.

        Raises
        ------
        ValueError
            If a class, an image or a merge is listed twice or does not exist.
        """
        return cls(
            tuple(ProjectImage(**i) for i in data["images"]),
            Legend(tuple(LabelClass.from_dict(c) for c in data["classes"])),
            {int(k): v for k, v in data.get("merged", {}).items()},
            tuple(data["checkpoints"]),
            dict(data.get("deleted", {})),
        )


Change = Callable[[Project], Project]


def _check_unique(what: str, paths: list[str]) -> None:
    if len(set(paths)) < len(paths):
        twice = next(p for p in paths if paths.count(p) > 1)
        raise ValueError(f"{what} is listed twice: {twice}")


def _matches(image: ProjectImage, pattern: str) -> bool:
    return any(fnmatchcase(text, pattern) or text == pattern
               for text in (image.path, image.name))  # fmt: skip


def _class_dict(label: LabelClass) -> dict[str, Any]:
    return {k: v for k, v in label.to_dict().items() if v is not None}
