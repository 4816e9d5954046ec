"""Building blocks that several networks share.

Holds encoders, heads, losses and normalisation layers.

Must not import the methods, the registry and checkpoints.
"""

__all__ = [
    "aspp",
    "banded",
    "coarse_to_fine",
    "context_squeezing",
    "conv",
    "efficient_attention",
    "float32",
    "glnet_fpn",
    "glnet_patches",
    "heads",
    "hrnet",
    "laplacian",
    "losses",
    "normalisation",
    "raf",
    "smp_network",
    "stdc",
    "surrounding_branch",
    "timm_features",
]
