"""Annotation regions: their file, their counts, and locks of corrections.

Must not import ``io.corrections.corrections``.
"""

__all__ = ["locks", "region_counts", "regions_file"]
