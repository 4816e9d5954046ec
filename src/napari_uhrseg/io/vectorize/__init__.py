"""Outlines of label regions as polygons.

Holds strips of shown labels, boundary tracing, and buffers that spill to disk.

Must not import ``io.readers``, ``io.corrections`` and ``io.export``.
"""

__all__ = ["label_strips", "limits", "rings", "trace"]
