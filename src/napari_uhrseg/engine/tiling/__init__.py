"""Windows and frames, and merging of their results.

Contains the protocol of windows and frames, their grids, the schedule of frames,
weighted merging, confidence, and seam blending.

Must not import ``engine.planning``, ``engine.inference`` and the packages above it.
"""

__all__ = [
    "confidence",
    "frame_grid",
    "frame_logits",
    "frame_schedule",
    "frame_seams",
    "run_pixels",
    "tiling",
    "window_grid",
    "window_merge",
]
