"""Measurements of the displayed labels that are written as tables.

Contains the table of all connected objects and its files, the class shares of regions
as columns of the regions' file, and changes between two label stores.

Must not import ``io.project``.
"""

__all__ = ["annotation_shares", "changes", "object_files", "objects", "region_shares"]
