"""Labels panel: classes, areas and exports.

The package must not import ``ui.correct`` and ``ui.finetune``.
"""

__all__ = ["areas_panel", "class_editor", "export_panel", "selection"]
