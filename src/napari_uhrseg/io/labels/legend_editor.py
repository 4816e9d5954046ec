"""Changes of the classes of a label store."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.disk_layout import StoreContents
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.types import Legend


class LegendEditor:
    """Editor that adds, renames, recolours and merges the classes of a store.

    Parameters
    ----------
    path
        The store, for error messages.
    contents
        What the store has on disk.
    writing
        Returns the context of one change: it checks the write lock and translates
        the errors of the disk.
    refresh
        Called after a change of the displayed classes, to update the coarsest level.
    """

    def __init__(
        self,
        path: PathOrUrl,
        contents: StoreContents,
        writing: Callable[[], AbstractContextManager[None]],
        refresh: Callable[[], None],
    ) -> None:
        self._path, self._contents = path, contents
        self._writing, self._refresh = writing, refresh

    def add_classes(self, legend: Legend) -> Legend:
        """Add the classes whose names are new. Return the whole legend.

        Raises
        ------
        StoreError
            If there would be more than 255 classes, or the store is not writable.
        """
        return self._change(lambda: self._contents.legend.merged(legend))

    def rename_class(self, class_id: int, name: str) -> Legend:
        """Rename a class. Networks still match the class by its former name.

        Raises
        ------
        StoreError
            If another class has the name, there is no such class, or the store is not
            writable.
        """
        return self._change(lambda: self._contents.legend.renamed(class_id, name))

    def recolor_class(self, class_id: int, color: str) -> Legend:
        """Set the colour of a class, ``#rrggbb``.

        Raises
        ------
        StoreError
            If the colour is invalid, there is no such class, or the store is not
            writable.
        """
        return self._change(lambda: self._contents.legend.recolored(class_id, color))

    def merge_class(self, class_id: int, into: int) -> Legend:
        """Display a class as another one, for existing and future labels.

        The arrays and the legend keep the class, because runs refer to it;
        `LabelStore.aliases` contains the displayed class. Merging a class into itself
        ends the merge.

        Raises
        ------
        ValueError
            If one of the classes is unknown, or ``into`` is displayed as this class.
        StoreError
            If the store is not writable.
        """
        with self._writing():
            legend = self._contents.legend
            aliases = {k: v for k, v in self._contents.aliases.items() if k != class_id}
            if class_id != into:
                into = aliases.get(into, into)
                aliases = {k: into if v == class_id else v for k, v in aliases.items()}
                aliases[class_id] = into
            if aliases.get(into) or not {class_id, into} <= {c.id for c in legend}:
                raise ValueError(f"class {class_id} cannot be merged into {into}")
            self._contents.save(aliases=aliases)
            self._refresh()
            return legend

    def _change(self, change: Callable[[], Legend]) -> Legend:
        with self._writing():
            try:
                legend = change()
            except ValueError as error:
                raise StoreError(
                    f"The classes of {self._path} stay as they were: {error}.",
                    "Choose another name or colour, or segment into a new store.",
                ) from error
            if legend != self._contents.legend:
                self._contents.save(legend=legend)
            return legend
