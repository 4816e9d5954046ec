"""Background work for the window.

Holds worker threads, the controller of a worker, and the import of torch.

Must not import the panels and ``ui.layers``.
"""

__all__ = ["import_torch", "job_controller", "worker"]
