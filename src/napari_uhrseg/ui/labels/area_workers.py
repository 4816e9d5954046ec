"""Estimates, counts and files of class areas, in workers."""

import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_uhrseg.types import AnnotationRegion, MultiPolygon, Region

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore

Named = tuple[Region | None, str]
Place = tuple["LabelStore", tuple[Named, ...]]
"""Labels, and the regions with their names; None is the whole image."""


def share_suffixes(regions: Path | None) -> tuple[str, ...]:
    """Return the suffixes of files with class shares; None: of drawn regions."""
    from napari_uhrseg.io.measure.annotation_shares import SUFFIXES
    from napari_uhrseg.io.measure.region_shares import TARGETS

    return SUFFIXES if regions is None else TARGETS.get(regions.suffix.lower(), ())


def drawn_annotations(regions: Sequence[Named]) -> tuple[AnnotationRegion, ...]:
    """Return drawn regions as annotation regions without a lock."""
    return tuple(
        AnnotationRegion(name, MultiPolygon.of(region))
        for region, name in regions
        if region is not None
    )


def _key(place: Place) -> object:
    """Return a key that changes with the regions and the coarsest level."""
    store, regions = place
    shown = store.coarsest_displayed().tobytes()
    return store.path, regions, store.legend, zlib.crc32(shown)


def estimate_areas(place: Place, seen: object) -> Any:
    """Return the key and the tables, or None if the key is unchanged."""
    from napari_uhrseg.io.export.class_areas import estimated_areas

    key = _key(place)
    if key == seen:
        return None
    store, regions = place
    return key, tuple(estimated_areas(store, *named) for named in regions)


def count_areas(place: Place) -> Generator[float, None, Any]:
    """Yield the progress over all regions, and return the key and the tables."""
    from napari_uhrseg.io.export.class_areas import areas

    key, tables = _key(place), []
    store, regions = place
    for i, named in enumerate(regions):
        for found in areas(store, *named):
            if isinstance(found, float):
                yield (i + found) / len(regions)
            else:
                tables.append(found)
    return key, tuple(tables)


def write_shares(
    store: "LabelStore", regions: Path | tuple[AnnotationRegion, ...], path: Path
) -> Generator[float, None, tuple[str, ...]]:
    """Write regions with class shares, and return notes about them.

    Parameters
    ----------
    store
        The labels.
    regions
        File of the regions, which is copied, or the regions.
    path
        File to write, which is replaced.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    """
    from napari_uhrseg.io.measure.annotation_shares import write_annotation_shares
    from napari_uhrseg.io.measure.region_shares import write_region_shares

    notes: tuple[str, ...] = ()
    for step in (
        write_region_shares(store, regions, path, overwrite=True)
        if isinstance(regions, Path)
        else write_annotation_shares(store, regions, path, overwrite=True)
    ):
        if isinstance(step, float):
            yield step
        else:
            notes = step
    return notes
