"""Spread of changed classes: from one label store to its project and other stores."""

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING

from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.io.project.project import Project
from napari_uhrseg.io.project.project_file import ProjectFile

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


def spread_classes(
    file: ProjectFile,
    paths: ProjectPaths,
    store: "LabelStore",
    deleted: list[tuple[str, str]],
) -> Generator[str, None, dict[str, str]]:
    """Give the classes of a store to the project and its other stores.

    Parameters
    ----------
    file, paths
        The project.
    store
        The store whose classes were changed.
    deleted
        Names of classes deleted there, and of those that their labels became.

    Yields
    ------
    str
        Path of each image after its labels.

    Returns
    -------
    dict
        Path of each image whose labels keep other classes to the reason. Empty if the
        store is not of the project.
    """
    from napari_uhrseg.io.project.class_edits import with_classes_of, without_classes
    from napari_uhrseg.io.project.project_stores import sync_all

    project = file.read()
    own = [i for i in project.images if paths.folder / i.labels == store.path]
    if not own:
        return {}

    def change(current: Project) -> Project:
        left = without_classes(current, deleted)
        return with_classes_of(left, store.legend, store.aliases)

    changed = file.update(change)
    others = [i for i in project.images if i not in own]
    labels = {i.path: partial(paths.resolve, i.labels) for i in others}
    return (yield from sync_all(changed, labels))
