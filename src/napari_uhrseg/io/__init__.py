"""Input and output: images, label stores, corrections, outlines and exports.

`open` opens images; `paths` handles local paths and URLs.

Must not import torch, Qt, napari, ``engine``, ``models`` and ``ui``.
"""

__all__ = ["corrections", "export", "image", "labels", "open", "paths", "readers"]
