"""Choice of a checkpoint: the picker, imports, and descriptions of ONNX networks.

Must not import the other modules of ``ui.segment``.
"""

__all__ = ["model_picker"]
