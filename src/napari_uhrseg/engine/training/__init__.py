"""Training from folders of images and masks.

Holds the training loop, the learning-rate schedule, the memory of a training
step, and gradient checkpointing.

Must not import ``engine.finetuning`` and ``engine.cluster``.
"""

__all__ = ["schedule", "step_memory", "train", "trainer"]
