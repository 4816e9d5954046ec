"""Clean-up of the displayed labels: majority filter, small objects and small holes.

Must not import ``io.project``.
"""

__all__ = ["clean_labels", "correct_labels", "majority", "sieve"]
