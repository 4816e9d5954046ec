"""Regions that the tools of the Correct panel select in a small part of an image.

One file per tool: similar colours (``wand``), ``superpixels``, regions of similar
features (``smart_fill``) and outlines (``outline``). All of them work on a
``work_area``, whose size is bounded.

Must not import ``engine.finetuning`` and ``engine.cluster``.
"""

__all__ = ["outline", "smart_fill", "superpixels", "wand", "work_area"]
