"""Fine-tuning from user corrections.

Contains the data sets of the corrected pixels of one or several images, knowledge
distillation, model selection, class mapping, and the lineage of checkpoints.

Must not import ``engine.cluster``.
"""

__all__ = [
    "correction_truth",
    "finetune",
    "lineage",
    "live_training",
    "model_selection",
    "new_model",
    "pixel_trainer",
    "pixel_training",
]
