"""Qt widgets that do not depend on images and labels.

The package contains forms, layouts, tabs, run controls, progress bars, lists, tables,
dialogs, and settings that are kept between sessions.

It must not import any other package of the window.
"""

__all__ = [
    "class_list",
    "clean_up_form",
    "colours",
    "dialogs",
    "focus_outline",
    "form",
    "help_window",
    "layout",
    "number_text",
    "pages",
    "remembered",
    "required",
    "run_controls",
    "step_tabs",
    "table",
    "task_progress",
]
