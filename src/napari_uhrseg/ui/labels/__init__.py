"""The Labels part of the panel: classes, areas and exports.

Must not import ``ui.correct`` and ``ui.finetune``.
"""

__all__ = ["areas_panel", "class_editor", "export_panel", "selection"]
