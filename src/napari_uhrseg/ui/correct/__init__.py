"""The Correct part of the panel: paint, confirm and import corrections.

Must not import ``ui.segment`` and ``ui.finetune``.
"""

__all__ = ["panel"]
