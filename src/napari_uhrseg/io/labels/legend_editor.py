"""Changes of the classes of a label store."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.labels.disk_layout import StoreContents
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import apply_aliases, read_array, write_levels
from napari_uhrseg.io.labels.store_files import chunk_files
from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.types import Legend, Roi, deleted_ids, with_merge

DELETED, WRITING = 1, 2  # `StoreContents.deleting` before and after the first chunk


class LegendEditor:
    """Editor that adds, renames, recolours, merges and deletes classes of a store.

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
        return self._change(lambda: self.merged(legend))

    def merged(self, legend: Legend) -> Legend:
        """Return the legend that `add_classes` would make.

        Raises
        ------
        ValueError
            If there would be more than 255 classes.
        """
        contents = self._contents
        return contents.legend.merged(legend, above=max(contents.aliases, default=0))

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
            aliases = with_merge(legend, self._contents.aliases, class_id, into)
            self._contents.save(aliases=aliases)
            self._refresh()
            return legend

    def delete_class(self, class_id: int, into: int) -> Legend:
        """Remove a class from the legend, and the classes that are displayed as it.

        Their labels are displayed as ``into``. `write_deleted` writes them. Runs then
        give the class ``into``, so that a run can be continued.

        Parameters
        ----------
        class_id
            Id of the class.
        into
            Id of the class that the labels become; 0: no label.

        Raises
        ------
        StoreError
            If one of the classes is unknown, ``into`` is deleted too, or the store is
            not writable.
        """
        with self._writing():
            contents, aliases = self._contents, self._contents.aliases
            try:
                gone, into = deleted_ids(contents.legend, aliases, class_id, into)
            except ValueError as error:
                raise StoreError(
                    f"Class {class_id} of {self._path} cannot become class {into}.",
                    "Choose two classes of the labels.",
                ) from error
            legend = contents.legend.without(gone)
            runs = tuple(
                replace(
                    r, class_map=tuple(into if i in gone else i for i in r.class_map)
                )
                for r in contents.runs
            )
            contents.save(
                legend=legend,
                runs=runs,
                aliases={**aliases, **dict.fromkeys(gone, into)},
                deleting=max(contents.deleting, DELETED),
            )
            self._refresh()
            return legend

    @property
    def deleting(self) -> bool:
        """True if a deletion was interrupted; `write_deleted` completes it."""
        return self._contents.deleting >= DELETED

    def write_deleted(self) -> Iterator[float]:
        """Write the predictions of deleted classes as the classes that replace them.

        Yields the completed share after each chunk. After an interrupted deletion, all
        chunks with labels are written, since their coarser levels may be incomplete.
        """
        contents = self._contents
        levels = contents.prediction
        with self._writing():
            is_begun = contents.deleting >= WRITING
            contents.save(deleting=WRITING)
        known = {c.id for c in contents.legend}
        gone = [k for k in contents.aliases if k not in known]
        table = {k: contents.aliases[k] for k in gone}
        side = levels[0].chunks[0]
        image = Roi(0, 0, *levels[0].shape)
        chunks = [chunk for chunk, _ in chunk_files(self._path, levels[0])]
        for number, (row, column) in enumerate(chunks, 1):
            roi = Roi(row * side, column * side, side, side).intersect(image)
            with self._writing():
                labels = read_array(levels[0], roi.slices)
                if is_begun or np.isin(labels, gone).any():
                    labels = apply_aliases(labels, table)
                    write_levels(levels, roi, labels, coarser_labels)
            yield number / len(chunks)
        with self._writing():
            contents.save(deleting=0)
            self._refresh()

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
