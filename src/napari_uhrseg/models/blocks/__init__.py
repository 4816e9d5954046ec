"""Building blocks that several networks share.

Contains encoders, heads, losses and normalisation layers.

Must not import the methods, the registry and checkpoints.
"""

__all__ = [
    "aspp",
    "banded",
    "coarse_to_fine",
    "common",
    "context_squeezing",
    "efficient_attention",
    "glnet",
    "laplacian",
    "losses",
    "raf",
    "smp_network",
    "stdc",
    "surrounding_branch",
    "timm_features",
]
