"""Training from folders of images and masks.

Contains the training loop, losses, the learning-rate schedule, the memory of a training
step, and gradient checkpointing. To add a loss, see `losses`.

Must not import ``engine.finetuning`` and ``engine.cluster``.
"""

__all__ = ["initial_weights", "job", "schedule", "step_memory", "train", "trainer"]
