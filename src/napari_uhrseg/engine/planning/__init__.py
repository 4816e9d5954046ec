"""Planning of a run for an image, a model and a memory budget.

Contains the plan, the match of image bands to the network, the memory estimate,
and the batch size.

Must not import ``engine.inference`` and the packages above it.
"""

__all__ = ["batch_size", "checkpoint_choice", "image_fit", "memory_estimate", "plan"]
