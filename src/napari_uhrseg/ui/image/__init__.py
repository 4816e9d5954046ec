"""Image panel: open images and labels.

Must not import ``ui.correct``, ``ui.finetune`` and ``ui.labels``.
"""

__all__ = ["new_labels_dialog", "open_labels", "panel"]
