"""Damaged chunks of the corrections, which are set aside and restored from the journal.

A chunk is damaged if its file is empty or cut, for example by a full disk or an
incomplete copy. Its other levels and the other chunks are kept.
"""

from pathlib import Path

import numpy as np

from napari_uhrseg.io.labels.disk_layout import CORRECTION, Levels
from napari_uhrseg.io.labels.downsample import coarser_labels
from napari_uhrseg.io.labels.pyramid import write_levels
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.labels.store_files import damaged_chunks
from napari_uhrseg.types import Roi
from napari_uhrseg.units import formatted

FOLDER = "damaged"  # for the files, in the folder of the journal
MAX_NAMED = 3  # chunks that a message names


def set_aside(store: LabelStore, levels: Levels, journal: Path) -> list[Roi]:
    """Move damaged files of level 0 away, so that the chunks are empty at all levels.

    Parameters
    ----------
    store
        The label store.
    levels
        Levels of the corrections, open for writing.
    journal
        Folder of the journal.

    Returns
    -------
    Level-0 rectangles of the damaged chunks.

    Raises
    ------
    OSError
        If a file cannot be moved or written.
    """
    found: list[Roi] = []
    whole, side = Roi(0, 0, *store.shape), levels[0].chunks[0]
    for (row, column), file in list(damaged_chunks(store.path / CORRECTION, levels[0])):
        folder = journal / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        file.replace(folder / f"{row}-{column}")
        found.append(Roi(row * side, column * side, side, side).intersect(whole))
    for roi in found:
        empty = np.zeros((roi.height, roi.width), np.uint8)
        store.refresh_coarsest(write_levels(levels, roi, empty, coarser_labels))
    return found


def loss_text(
    store: LabelStore, lost: list[Roi], before: int | None, after: int
) -> str:
    """Return a sentence about the corrections that damaged chunks have lost.

    Parameters
    ----------
    store
        The label store.
    lost
        Level-0 rectangles of the damaged chunks, at least one.
    before
        Corrected pixels before the damage; None if the number is not known.
    after
        Corrected pixels after the chunks were restored from the journal.
    """
    names = "; ".join(
        f"y {formatted(roi.y)} to {formatted(roi.bottom)}, x {formatted(roi.x)} to "
        f"{formatted(roi.right)}"
        for roi in lost[:MAX_NAMED]
    )
    more = (
        f"; and {formatted(len(lost) - MAX_NAMED)} more"
        if len(lost) > MAX_NAMED
        else ""
    )
    parts = f"{formatted(len(lost))} part{'s' if len(lost) > 1 else ''}"
    if before is None:
        pixels = "What the undo history does not contain of them is lost"
    elif before > after:
        lost_pixels = f"{formatted(before - after)} of {formatted(before)}"
        pixels = f"{lost_pixels} corrected pixels are lost"
    else:
        pixels = "They were restored from the undo history, and no pixel is lost"
    return (
        f"{parts} of the corrections in {store.path} ({names}{more}) had damaged "
        f"files. {pixels}; the other corrections are kept."
    )
