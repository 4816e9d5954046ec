"""Fine-tuning from user corrections.

Contains the data set of corrected pixels, knowledge distillation, model selection,
class mapping, and the lineage of checkpoints.

Must not import ``engine.cluster``.
"""

__all__ = [
    "finetune",
    "lineage",
    "live_training",
    "model_selection",
    "new_model",
    "pixel_trainer",
    "pixel_training",
]
