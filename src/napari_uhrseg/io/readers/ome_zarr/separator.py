"""Guess of the separator in the names of chunks, if the metadata does not name it."""

from collections.abc import Sequence
from dataclasses import replace

import zarr
from zarr.core.metadata import ArrayV2Metadata

from napari_uhrseg.io.paths import PathOrUrl
from napari_uhrseg.io.readers.ome_zarr.fingerprint import has_chunks


def with_separator(
    path: PathOrUrl, levels: Sequence[zarr.Array], said: list[str]
) -> list[zarr.Array]:
    """Return arrays that read nested chunks if their metadata names no separator.

    Without ``dimension_separator``, a chunk of zarr version 2 is a file ``0.0``. Some
    programs write folders (``0/0``) and leave the name of the separator out.

    Parameters
    ----------
    path
        Folder or URL of the store.
    levels
        Arrays from fine to coarse, at least one.
    said
        List of warnings; a warning is appended if an array is read with a guess.

    Returns
    -------
    The arrays; those with nested chunks only are new.
    """
    if not _may_be_nested(levels[0]) or has_chunks(path, levels[0]):
        return list(levels)
    found: list[zarr.Array] = []
    for level in levels:
        nested = _nested(level) if _may_be_nested(level) else level
        is_nested = not has_chunks(path, level) and has_chunks(path, nested)
        found.append(nested if is_nested else level)
    guessed = sum(a is not b for a, b in zip(found, levels, strict=True))
    if guessed:
        said.append(
            f"The metadata of {path.name} names no dimension_separator, and no chunk "
            f"has a name such as 0.0. The chunks of {guessed} of {len(levels)} levels "
            "are in folders (0/0) and are read from there."
        )
    return found


def _may_be_nested(array: zarr.Array) -> bool:
    metadata = array.metadata
    return (
        isinstance(metadata, ArrayV2Metadata)
        and metadata.dimension_separator == "."
        and array.ndim > 1
    )


def _nested(array: zarr.Array) -> zarr.Array:
    metadata = array.metadata
    if not isinstance(metadata, ArrayV2Metadata):
        return array
    nested = replace(metadata, dimension_separator="/")
    return zarr.Array(zarr.AsyncArray(nested, array.store_path, array.config))
