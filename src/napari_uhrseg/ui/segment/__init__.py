"""Segment panel: choose a model and settings, run it, follow the run.

The package must not import ``ui.correct`` and ``ui.finetune``.
"""

__all__ = ["hardware", "output", "panel", "restore_run", "settings", "state", "worker"]
