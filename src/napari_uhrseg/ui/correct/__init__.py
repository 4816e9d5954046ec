"""Correct panel: paint, confirm and import corrections.

The package must not import ``ui.segment`` and ``ui.finetune``.
"""

__all__ = ["panel"]
