"""Commands that measure displayed labels and write tables.

Must not import ``ui``.
"""

__all__ = ["areas", "clean_up", "compare", "objects"]
