"""Runs of several images: their stores, backends, tissue masks, and a report.

Must not import the modules of the commands.
"""

__all__ = ["backends", "batch", "segment_images", "tissue"]
