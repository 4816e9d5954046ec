"""Deletion of a class: its labels become another class, or none."""

from collections.abc import Iterator
from contextlib import ExitStack

from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore


def delete_class(
    store: LabelStore,
    class_id: int,
    into: int = 0,
    corrections: Corrections | None = None,
) -> Iterator[float]:
    """Delete a class, and the classes that are displayed as it.

    The class leaves the legend at once, and its labels are displayed as ``into``. Then
    the corrections and the predictions are written chunk by chunk; memory does not
    grow with the image. Closing the generator, or a kill, leaves some chunks as they
    were: they are displayed correctly, and the next deletion writes them. The id is
    never used again. Corrections of the class become ``into``; for 0, they are removed.

    Parameters
    ----------
    store
        The labels, open for writing.
    class_id
        Id of the class.
    into
        Id of the class that the labels become; 0: no label.
    corrections
        Open corrections of the store. None: they are opened.

    Yields
    ------
    float
        Completed share.

    Raises
    ------
    StoreError
        If one of the classes is unknown, ``into`` is deleted too, the store is not
        writable, or another process corrects the labels.
    """
    with ExitStack() as stack:
        if corrections is None:
            corrections = stack.enter_context(Corrections.open(store))
        store.legend_editor.delete_class(class_id, into)
        yield from finish_deletions(store, corrections)


def finish_deletions(store: LabelStore, corrections: Corrections) -> Iterator[float]:
    """Write the labels of deleted classes that an interrupted deletion has left.

    Yields the completed share.

    Parameters
    ----------
    store
        The labels, open for writing.
    corrections
        Open corrections of the store.
    """
    known = {c.id for c in store.legend}
    table = {k: v for k, v in store.aliases.items() if k not in known}
    for share in corrections.relabel(table):
        yield share / 2
    for share in store.legend_editor.write_deleted():
        yield 0.5 + share / 2
