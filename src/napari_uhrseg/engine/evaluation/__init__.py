"""Accuracy of a model on labelled images.

Contains the confusion matrix, its scores, and the evaluation of scenes.

Must not import ``engine.training``, ``engine.finetuning`` and
``engine.cluster``.
"""

__all__ = ["area_weighted", "evaluate", "metrics", "report"]
