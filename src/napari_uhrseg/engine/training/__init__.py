"""Training from folders of images and masks.

Contains the training loop, losses, the learning-rate schedule, the memory of a training
step, and gradient checkpointing. To add a loss, see `losses`.

Must not import ``engine.finetuning`` and ``engine.cluster``.
"""

__all__ = [
    "feature_cache", "initial_weights", "job", "remaining_time", "schedule",
    "stage_parameters", "step_memory", "time_estimate", "train", "trainer",
]  # fmt: skip
