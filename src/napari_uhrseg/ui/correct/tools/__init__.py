"""Tools that select regions on the canvas: one file per tool, listed in ``registry``.

The package must not import the other modules of ``ui.correct``.
"""

__all__ = ["registry", "tool"]
