"""Segmentation on a Dask cluster.

Contains the client, its tasks and their queue, and the functions of the workers.

Must not import ``engine.training`` and ``engine.finetuning``.
"""

__all__ = ["client"]
