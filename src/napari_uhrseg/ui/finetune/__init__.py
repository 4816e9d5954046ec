"""Fine-tune panel: train on corrections, compare, keep or discard.

The package must not import ``ui.correct``.
"""

__all__ = ["form", "panel", "state"]
