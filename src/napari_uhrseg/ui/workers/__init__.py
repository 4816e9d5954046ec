"""Background work for the window.

The package contains worker threads, the controller of a worker, and the import of
torch.

It must not import the panels and ``ui.layers``.
"""

__all__ = ["import_torch", "job_controller", "worker"]
