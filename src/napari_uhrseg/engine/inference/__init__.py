"""Context-aware sliding inference.

Contains the segmentation generator, the runners for windows and frames, the
background mask, the preview, the priority of chunks, the handling of a lack of memory,
and the progress of several runs.

Must not import ``engine.training``, ``engine.finetuning`` and
``engine.cluster``.
"""

__all__ = [
    "background_mask",
    "frame_runner",
    "label_windows",
    "nearest_first",
    "overall_progress",
    "preview",
    "runner",
    "segment",
    "window_runner",
]
