"""Values of a target that are no class."""

IGNORED = 255
"""A pixel whose class is unknown, or which lies outside the scene."""
HELD_OUT = 254
"""A corrected pixel of a validation place: excluded from every loss."""
