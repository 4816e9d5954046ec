"""Networks, with one file per method.

Contains the registry, checkpoints and their cards, the seven methods, and ONNX
networks.

Must not import ``io``, ``engine``, ``ui`` and ``cli``.
"""

__all__ = [
    "add_classes",
    "allocation_limit",
    "base",
    "blocks",
    "card_header",
    "checkpoint",
    "dataset_legends",
    "encoder_weights",
    "importers",
    "onnx",
    "registry",
    "timm_import",
]
