"""Project part: the list of images with thumbnails, and runs on many of them.

Must not import the other parts of the panel, except ``segment.worker``.
"""

__all__ = ["evaluation_panel", "panel"]
