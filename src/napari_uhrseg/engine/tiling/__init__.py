"""Windows and frames, and merging of their results.

Contains the window and frame grids, weighted merging, and seam blending.

Must not import ``engine.planning``, ``engine.inference`` and the packages above it.
"""

__all__ = ["frame_grid", "frame_logits", "merge", "seam_blending", "window_grid"]
