"""Image panel: open images and labels.

The package must not import ``ui.correct``, ``ui.finetune`` and ``ui.labels``.
"""

__all__ = [
    "image_switch",
    "labels_offer",
    "listed_images",
    "new_labels_dialog",
    "open_labels",
    "panel",
    "picture_form",
    "view_memory",
]
