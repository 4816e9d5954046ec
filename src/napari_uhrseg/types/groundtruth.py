"""Values of a ground truth that do not represent a class."""

IGNORED = 255
"""A pixel whose class is unknown, or which lies outside the scene."""
HELD_OUT = 254
"""A corrected pixel of a validation region: excluded from every loss."""
