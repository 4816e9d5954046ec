"""Training data.

Contains labelled scenes, samplers, data augmentation, batches, and data sets read from
folders. To add an augmentation or a sampler, see `augmentation` and `samplers`.

Must not import ``engine.inference``, ``engine.training`` and the packages above them.
"""

__all__ = [
    "augmentation",
    "batches",
    "class_coverage",
    "corrected_images",
    "correction_sites",
    "folder_dataset",
    "mask_legend",
    "scenes",
]
