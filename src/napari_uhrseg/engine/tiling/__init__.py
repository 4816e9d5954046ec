"""Windows and frames, and how their results are merged.

Holds the window and frame grids, weighted merging, and seam blending.

Must not import ``engine.planning``, ``engine.inference`` and what lies above.
"""

__all__ = ["frame_grid", "frame_logits", "merge", "seam_blending", "window_grid"]
