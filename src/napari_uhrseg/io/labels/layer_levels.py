"""Pyramids of a label store in the form that napari layers use."""

import zarr

from napari_uhrseg.io.labels.pyramid import DisplayedLevel
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import Labels


def displayed_levels(store: LabelStore) -> list[DisplayedLevel | Labels]:
    """Return the displayed labels, level 0 first.

    All levels but the coarsest read the disk when they are indexed. The coarsest is a
    numpy array that every write updates in place, because napari reads it only once.
    """
    finer = zip(store.prediction[:-1], store.correction[:-1], strict=True)
    levels = [DisplayedLevel(p, c, store.aliases) for p, c in finer]
    return [*levels, store.coarsest_displayed()]


def correction_levels(store: LabelStore) -> list[DisplayedLevel | Labels]:
    """Return the corrections only, in the form of `displayed_levels`."""
    levels = [DisplayedLevel(None, c, store.aliases) for c in store.correction[:-1]]
    return [*levels, store.coarsest_corrections()]


def confidence_levels(store: LabelStore) -> list[zarr.Array | Labels]:
    """Return the confidence, in the form of `displayed_levels`."""
    return [*store.confidence[:-1], store.coarsest_confidence()]
