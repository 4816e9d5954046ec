"""Running a network on a device.

Contains devices and memory budgets, network inputs and their normalisation, inference
optimisation, profiling, and threads for reading and forward passes.

Must not import any other package of the engine.
"""

__all__ = [
    "activation_memory",
    "device",
    "inputs",
    "optimize",
    "parallel_forward",
    "pixel_batch",
    "profiling",
    "reader_threads",
]
