"""The Segment part of the panel: choose a model, run it, watch it.

Must not import ``ui.correct`` and ``ui.finetune``.
"""

__all__ = ["hardware", "output", "panel", "worker"]
