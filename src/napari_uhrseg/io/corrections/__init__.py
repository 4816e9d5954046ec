"""User corrections of a label store.

`corrections` contains strokes, fills, undo and redo; `undo`, `replay` and `journal`
reverse, execute and record them. `counts` finds the corrected regions. Others
import annotations, find uncertain regions and delete classes. `annotations` contains
the named regions, which may be locked.

Must not import ``io.readers`` and ``io.export``.
"""

__all__ = [
    "annotations",
    "corrections",
    "counts",
    "delete_class",
    "mask_import",
    "polygon_features",
    "polygon_import",
    "rasterize",
    "region_text",
    "uncertain_regions",
    "undo",
]
