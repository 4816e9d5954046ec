"""Label stores of a project: their states, and one set of classes for all."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.corrections.delete_class import delete_class
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.paths import PathOrUrl, exists
from napari_uhrseg.io.project.class_edits import adopt_classes, counterparts
from napari_uhrseg.io.project.project import Project, State
from napari_uhrseg.types import Legend


def observed_state(labels: PathOrUrl) -> State:
    """Return the state of a label store from its contents, without ``reviewed``.

    Raises
    ------
    StoreError
        If there is a folder that cannot be opened as a label store.
    """
    if not exists(labels):
        return "new"
    with LabelStore.open(labels) as store:
        if store.coarsest_corrections().any():
            return "corrected"
        return "segmented" if store.chunk_status().any() else "new"


def sync_classes(store: LabelStore, project: Project) -> bool:
    """Give a store the classes of a project. Return True if it was changed.

    Classes are matched by their names and former names; they keep their ids in the
    store. Further classes of the store stay. A class that was deleted in the project is
    deleted in the store: its labels and corrections are written chunk by chunk. A class
    that is not merged in the project is not merged in the store afterwards.

    Parameters
    ----------
    store
        A label store that is open for writing.
    project
        The project with the classes.

    Raises
    ------
    StoreError
        If two classes would have one name, the store is not writable, or a class is to
        be deleted while another process corrects the labels.
    """
    before = store.legend, dict(store.aliases)
    adopt_classes(store, project.legend, project.aliases)
    while (first := next(_to_delete(store.legend, project), None)) is not None:
        deque(delete_class(store, *first), maxlen=0)  # with those displayed as it
    return (store.legend, dict(store.aliases)) != before


def sync_all(
    project: Project, labels: Mapping[str, Callable[[], PathOrUrl]]
) -> Generator[str, None, dict[str, str]]:
    """Give all label stores the classes of a project.

    A store that another process is writing keeps its classes until it is opened from
    the project again.

    Parameters
    ----------
    project
        The project with the classes.
    labels
        Path of each image to a function that returns the path of its label store.

    Yields
    ------
    str
        Path of each image after its labels.

    Returns
    -------
    dict
        Path of each image whose labels keep other classes to the reason.
    """
    failed: dict[str, str] = {}
    for image, path in labels.items():
        try:
            where = path()
            if exists(where) and not _agrees(where, project):
                with LabelStore.open(where, write=True) as store:
                    sync_classes(store, project)
        except UhrSegError as error:
            failed[image] = str(error)
        yield image
    return failed


def _to_delete(legend: Legend, project: Project) -> Iterator[tuple[int, int]]:
    """Yield the ids of classes to delete in a store, and of what they become.

    Parameters
    ----------
    legend
        The classes of the store, which has all classes of the project.
    project
        The project with the deleted classes.
    """
    kept = {c.id for c in counterparts(project.legend, legend).values()}
    for name in project.deleted:
        found = next((c for c in legend if c.name == name), None)
        becomes = legend.named(project.successor(name))
        if found is not None and found.id not in kept:
            yield found.id, becomes.id if becomes is not None else 0


def _agrees(path: PathOrUrl, project: Project) -> bool:
    """Return True if a store has the names, colours and merges of a project."""
    with LabelStore.open(path) as store:
        if any(True for _ in _to_delete(store.legend, project)):
            return False
        for label in project.legend:
            found = store.legend.named(label.name)
            if found is None or (found.name, found.color) != (label.name, label.color):
                return False
        merged = _by_name(store.legend, store.aliases)
        known = {c.name for c in project.legend}
        own = {k: v for k, v in merged.items() if k in known}
        return own == _by_name(project.legend, project.aliases)


def _by_name(legend: Legend, aliases: Mapping[int, int]) -> dict[str, str]:
    names = {c.id: c.name for c in legend}
    # ids without a name are those of deleted classes
    return {names[k]: names[v] for k, v in aliases.items() if k in names}
