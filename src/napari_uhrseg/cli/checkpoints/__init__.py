"""Commands for networks of other programs: import of weights, cards of ONNX networks.

Must not import ``cli.runs`` and ``cli.project``.
"""

__all__ = ["card", "import_"]
