"""Areas panel, Export panel, and class editor.

The package must not import ``ui.correct`` and ``ui.finetune``.
"""

__all__ = [
    "areas_panel",
    "changes_panel",
    "class_editor",
    "export_panel",
    "objects_panel",
    "selection",
]
