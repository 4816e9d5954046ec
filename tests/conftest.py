"""Shared by all tests: napari's settings stay out of the person's own."""

import os
import tempfile
from pathlib import Path

_config = tempfile.TemporaryDirectory(prefix="napari-config-")
os.environ["NAPARI_CONFIG"] = str(Path(_config.name) / "settings.yaml")
os.environ["XDG_CONFIG_HOME"] = _config.name  # QSettings' recent checkpoints
