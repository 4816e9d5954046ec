"""User corrections of a label store.

`corrections` contains strokes, fills, undo and redo; `undo`, `replay` and `journal`
reverse, execute and record them. The other modules import annotations and find
uncertain regions.

Must not import ``io.readers`` and ``io.export``.
"""

__all__ = [
    "corrections",
    "mask_import",
    "polygon_features",
    "polygon_import",
    "rasterize",
    "region_text",
    "uncertain_regions",
    "undo",
]
