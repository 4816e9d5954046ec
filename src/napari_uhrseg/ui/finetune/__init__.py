"""The Fine-tune part of the panel: train on corrections, compare, keep or discard.

Must not import ``ui.correct``.
"""

__all__ = ["panel"]
