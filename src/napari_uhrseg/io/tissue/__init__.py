"""Tissue masks: detection in an image, the mask in a label store, and its export.

Must not import ``io.corrections``, ``io.vectorize`` and ``io.export``.
"""

__all__ = ["detect", "export_mask", "stored_mask"]
