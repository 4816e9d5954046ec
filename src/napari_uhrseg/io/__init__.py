"""Files to arrays and labels to files.

Holds the readers of images, the label store, the user's corrections,
vectorisation and export.

Must not import torch, Qt, napari, ``engine``, ``models`` and ``ui``.
"""

__all__ = ["corrections", "export", "image", "labels", "open", "paths", "readers"]
