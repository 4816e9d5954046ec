"""Segmentation, training and fine-tuning, without a window.

Contains the generators that the window, the command line and Python scripts run.

Must not import Qt, napari, ``ui`` and ``cli``.
"""

__all__ = [
    "cancellation",
    "cluster",
    "data",
    "evaluation",
    "events",
    "finetuning",
    "inference",
    "network",
    "planning",
    "selection",
    "training",
]
