"""Input and output: images, label stores, corrections, exports and projects.

`open` opens images; `paths` handles local paths and URLs.

Must not import torch, Qt, napari, ``engine``, ``models`` and ``ui``.
"""

__all__ = [
    "cleanup",
    "corrections",
    "export",
    "image",
    "labels",
    "measure",
    "open",
    "paths",
    "project",
    "readers",
    "tissue",
]
