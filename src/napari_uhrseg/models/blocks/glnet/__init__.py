"""Blocks of GLNet: feature pyramids, patches of a frame, and stages of the training.

The package must not import ``io``, ``engine`` and the models.
"""

__all__ = ["fpn", "patches", "training"]
