"""Qt widgets that do not depend on images and labels.

The package contains forms, layouts, run controls, progress bars, lists, tables,
dialogs, and settings that are kept between sessions.

It must not import any other package of the window.
"""

__all__ = [
    "class_list",
    "dialogs",
    "focus_outline",
    "form",
    "layout",
    "remembered",
    "required",
    "run_controls",
    "table",
    "task_progress",
]
