"""Context-aware sliding inference.

Contains the segmentation generator, the runners for windows and frames, the
background mask, the preview, and the priority of chunks.

Must not import ``engine.training``, ``engine.finetuning`` and
``engine.cluster``.
"""

__all__ = [
    "background_mask",
    "frame_runner",
    "label_windows",
    "nearest_first",
    "preview",
    "runner",
    "segment",
    "window_runner",
]
