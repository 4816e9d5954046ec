"""Last session: images, labels, tab and settings that come back at the next start.

The package must not import ``ui.panel``, which alone imports it.
"""

__all__ = ["keeper", "offer", "session_file"]
