"""Outlines of label regions as polygons.

The package contains strips of displayed labels, boundary tracing, simplification, and
buffers that spill to disk.

Must not import ``io.readers``, ``io.corrections`` and ``io.export``.
"""

__all__ = ["label_strips", "limits", "rings", "simplify", "trace"]
