"""Changes of the classes of a project, with the methods of a label store's editor."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_uhrseg.errors import ProjectError
from napari_uhrseg.io.project.project import Project
from napari_uhrseg.types import LabelClass, Legend, deleted_ids, with_merge

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


class ProjectClassEditor:
    """Editor of the classes of a project.

    Parameters
    ----------
    project
        The project to change.

    Attributes
    ----------
    project
        The changed project.
    """

    def __init__(self, project: Project) -> None:
        self.project = project

    @property
    def legend(self) -> Legend:
        """All classes, including merged ones."""
        return self.project.legend

    @property
    def aliases(self) -> Mapping[int, int]:
        """Id of a merged class to the id of the displayed class."""
        return self.project.aliases

    @property
    def legend_editor(self) -> "ProjectClassEditor":
        """The editor itself, as a label store has one."""
        return self

    def add_classes(self, legend: Legend) -> Legend:
        """Add the classes whose names are new. Return the whole legend."""
        self.project = self.project.with_classes(legend)
        return self.legend

    def rename_class(self, class_id: int, name: str) -> Legend:
        """Rename a class. Label stores match it by its former name.

        Raises
        ------
        ProjectError
            If another class has the name, or there is no such class.
        """
        try:
            return self._changed(self.legend.renamed(class_id, name))
        except ValueError as error:
            raise ProjectError(
                f"The class is not renamed: {error}.", "Choose another name."
            ) from error

    def recolor_class(self, class_id: int, color: str) -> Legend:
        """Set the colour of a class, ``#rrggbb``."""
        return self._changed(self.legend.recolored(class_id, color))

    def merge_class(self, class_id: int, into: int) -> Legend:
        """Display a class as another one. The same class twice ends the merge.

        Raises
        ------
        ValueError
            If one of the classes is unknown, or ``into`` is displayed as this class.
        """
        aliases = with_merge(self.legend, self.aliases, class_id, into)
        self.project = replace(self.project, aliases=aliases)
        return self.legend

    def delete_class(self, class_id: int, into: int) -> Legend:
        """Remove a class, and the classes that are displayed as it.

        Their names and former names are recorded, so that all label stores get the
        deletion; see `project_stores.sync_classes`.

        Parameters
        ----------
        class_id
            Id of the class.
        into
            Id of the class that the labels become; 0: no label.

        Raises
        ------
        ProjectError
            If one of the classes is unknown, or ``into`` is deleted too.
        """
        aliases = self.aliases
        try:
            gone, into = deleted_ids(self.legend, aliases, class_id, into)
        except ValueError as error:
            raise ProjectError(
                f"Class {class_id} of the project cannot become class {into}.",
                "Choose two classes of the project.",
            ) from error
        names = {c.id: c.name for c in self.legend}
        left = self.legend.without(gone)
        lost = [c for c in self.legend if c.id in gone]
        former = {n for c in lost for n in c.former_names if left.named(n) is None}
        new = dict.fromkeys(
            (*sorted(former), *(c.name for c in lost)), names.get(into, "")
        )
        self.project = replace(
            self.project,
            legend=left,
            aliases={k: v for k, v in aliases.items() if k not in gone},
            deleted={**self.project.deleted, **new},
        )
        return self.legend

    def _changed(self, legend: Legend) -> Legend:
        self.project = replace(self.project, legend=legend)
        return legend


def without_classes(project: Project, deleted: Iterable[tuple[str, str]]) -> Project:
    """Return a project without classes that were deleted in a label store.

    Parameters
    ----------
    project
        The project.
    deleted
        Names of the classes, and of those that their labels became; empty: no label.
    """
    editor = ProjectClassEditor(project)
    for name, into in deleted:
        found, becomes = editor.legend.named(name), editor.legend.named(into)
        if found is not None and found != becomes:
            editor.delete_class(found.id, 0 if becomes is None else becomes.id)
    return editor.project


def with_classes_of(
    project: Project, legend: Legend, aliases: Mapping[int, int]
) -> Project:
    """Return a project with the names, colours and merges of a store's classes.

    Parameters
    ----------
    project
        The project.
    legend, aliases
        Classes and merges of a label store.
    """
    editor = ProjectClassEditor(project)
    adopt_classes(editor, legend, aliases)
    return editor.project


def adopt_classes(
    target: "LabelStore | ProjectClassEditor",
    legend: Legend,
    aliases: Mapping[int, int],
) -> None:
    """Give a label store or a project the names, colours and merges of classes.

    The classes keep their ids in the target; see `counterparts`. Further classes of the
    target stay. A class that ``aliases`` does not contain is not merged afterwards.

    Parameters
    ----------
    target
        Editor of a project, or a label store that is open for writing.
    legend, aliases
        Classes and merges to adopt.

    Raises
    ------
    UhrSegError
        If the target would have more than 255 classes, or is not writable.
    """
    editor = target.legend_editor
    _adopt_names(target, legend)
    own = {c.name: c for c in target.legend}
    ids = {c.id: own[c.name].id for c in legend if c.name in own}
    for label in legend:
        if label.id in ids and own[label.name].color != label.color:
            editor.recolor_class(ids[label.id], label.color)
    known = {k: v for k, v in aliases.items() if {k, v} <= ids.keys()}
    wanted = {ids[k]: ids[v] for k, v in known.items()}
    # first those that end, as a class that is merged cannot receive another one
    for one in ids.values():
        if target.aliases.get(one, one) not in (one, wanted.get(one)):
            editor.merge_class(one, one)
    for one, into in wanted.items():
        if target.aliases.get(one) != into:
            editor.merge_class(one, into)


def _adopt_names(target: "LabelStore | ProjectClassEditor", legend: Legend) -> None:
    """Rename the counterparts of classes, then add the classes that have none."""
    found = counterparts(legend, target.legend)
    waiting = [c for c in legend if c.id in found and found[c.id].name != c.name]
    while waiting:  # a class that is renamed frees its name for another one
        used = {c.name for c in target.legend}
        label = next(c for c in waiting if c.name not in used)
        target.legend_editor.rename_class(found[label.id].id, label.name)
        waiting.remove(label)
    for label in legend:
        if label.id not in found:
            target.legend_editor.add_classes(Legend((label,)))


def counterparts(legend: Legend, there: Legend) -> dict[int, LabelClass]:
    """Return the class of another legend for the id of each class that has one there.

    Each class has at most one counterpart, and is the counterpart of at most one. The
    present names are compared first, then former names of the class, then former names
    of the counterpart. If classes were renamed one after the other, such as b to c and
    then a to b, the counterpart of b is a, because that of c is b.

    Parameters
    ----------
    legend
        The classes.
    there
        Classes of a label store or a project, of which some may have former names.
    """
    named = {c.name: c for c in there}
    found = {c.id: named[c.name] for c in legend if c.name in named}
    owners = {found[c.id].id: c for c in legend if c.id in found}

    def take_former(label: LabelClass, asked: frozenset[int]) -> bool:
        """Take a class with a former name, whose owner takes another one."""
        for name in reversed(label.former_names):
            own = named.get(name)
            if own is None or own.id in asked:
                continue
            owner = owners.get(own.id)
            if owner is None or take_former(owner, asked | {own.id}):
                found[label.id], owners[own.id] = own, label
                return True
        return False

    for label in legend:
        if label.id in found or take_former(label, frozenset()):
            continue
        names = {label.name, *label.former_names}
        for own in there:
            if own.id not in owners and names & {*own.former_names}:
                found[label.id], owners[own.id] = own, label
                break
    return found
