"""User corrections of a label store.

Holds strokes, fills, undo and redo, the journal, imported annotations, and
uncertain regions.

Must not import ``io.readers`` and ``io.export``.
"""

__all__ = [
    "corrections",
    "geojson_import",
    "mask_import",
    "rasterize",
    "uncertain_regions",
]
