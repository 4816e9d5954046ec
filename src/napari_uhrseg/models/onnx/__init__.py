"""ONNX networks of other programs: the file, its card, and the network.

The file is untrusted. `graph` reads its structure without onnxruntime and refuses
operators from libraries and data outside its folder. `network` runs it.

Must not import ``models.checkpoint`` and the packages above it.
"""

__all__ = ["card", "description", "graph", "network", "protobuf"]
