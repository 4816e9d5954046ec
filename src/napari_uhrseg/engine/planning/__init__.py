"""Planning of a run for an image, a model and a memory budget.

Contains the plan, the match of image bands to the network, the memory estimate, the
batch size, the choice of a checkpoint, the windows with tissue, and the questions that
a run asks first.

Must not import ``engine.inference`` and the packages above it.
"""

__all__ = [
    "batch_size",
    "checkpoint_choice",
    "image_fit",
    "memory_estimate",
    "plan",
    "run_questions",
    "tissue_windows",
]
