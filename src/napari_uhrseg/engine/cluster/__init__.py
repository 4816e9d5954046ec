"""Segmentation on a Dask cluster.

Holds the client, its task queue, and what runs on the workers.

Must not import ``engine.training`` and ``engine.finetuning``.
"""

__all__ = ["client"]
