"""Counts of corrected pixels, and the corrected regions that follow from them.

The package must not import the journal and the changes of corrections.
"""

__all__ = ["corrected_regions", "correction_counts"]
