"""Training samples.

Holds scenes, data augmentation, batches, and data sets of folders.

Must not import ``engine.inference``, ``engine.training`` and what lies above.
"""

__all__ = ["batches", "folder_dataset", "scenes"]
