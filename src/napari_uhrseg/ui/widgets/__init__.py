"""Qt widgets without knowledge of images and labels.

Holds forms, layouts, run controls, progress bars, lists and dialogs.

Must not import any other package of the window.
"""

__all__ = [
    "class_list",
    "dialogs",
    "focus_outline",
    "form",
    "layout",
    "run_controls",
    "task_progress",
]
