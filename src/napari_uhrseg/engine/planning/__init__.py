"""From image, model and memory budget to a run plan.

Holds the plan, the match of image bands to the network, the memory estimate,
and the batch size.

Must not import ``engine.inference`` and what lies above.
"""

__all__ = ["batch_size", "image_fit", "memory_estimate", "plan"]
