"""Shared parts of the benchmarks: samples, processes and peak memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_uhrseg.models.checkpoint import Checkpoint

MB = 1024 * 1024


def sample(name: str) -> Path:
    """Return the path of a sample file."""
    from napari_uhrseg.samples import data_dir

    return next(data_dir().rglob(name))


def child(file: str, *arguments: str) -> Any:
    """Run a benchmark's file in a new process; return its last line, parsed as JSON."""
    command = [sys.executable, "-W", "ignore", file, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_bytes() -> int:
    """Return the peak resident memory of this process (Linux counts in KB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def added() -> Iterator[list[float]]:
    """Measure the peak resident memory of the block, in MB above that before it.

    Yields
    ------
    list of float
        One number, which is set when the block ends. Linux only.
    """
    import psutil

    found = [0.0]
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    try:
        yield found
    finally:
        status = Path("/proc/self/status").read_text()
        most = int(status.partition("VmHWM:")[2].split()[0]) * 1024
        found[0] = (most - before) / MB


def tiled(path: Path, side: int, compression: str | None) -> Path:
    """Write the repeated sample scene as a tiled pyramid; return its path.

    Parameters
    ----------
    path
        The TIFF file to write.
    side
        The side of the image in pixels.
    compression
        As in tifffile, or None.
    """
    import numpy as np
    import tifffile

    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.types import Roi

    tile = open_image(sample("scene.tif")).read(Roi(0, 0, 1024, 1024)).data
    level = np.tile(tile, (-(-side // 1024), -(-side // 1024), 1))[:side, :side]
    options = {"tile": (256, 256), "photometric": "rgb", "compression": compression}
    with tifffile.TiffWriter(path) as tif:
        tif.write(level, subifds=3, **options)
        for _ in range(3):
            level = level[::2, ::2]
            tif.write(level, subfiletype=1, **options)
    return path


def unet(window: int = 256) -> Checkpoint:
    """Return an untrained network of the usual size: a U-Net on ResNet-34."""
    import torch

    from napari_uhrseg.models.checkpoint import Checkpoint
    from napari_uhrseg.models.plain import Plain
    from napari_uhrseg.samples.world import CLASSES
    from napari_uhrseg.types import Card

    torch.manual_seed(0)
    how = {"architecture": "Unet", "encoder": "resnet34", "window": window}
    model = Plain(len(CLASSES), **how).eval()
    model.to(memory_format=torch.channels_last)
    card = Card("plain", how, CLASSES, model.spec, name="U-Net, ResNet-34")
    return Checkpoint(model, card, f"unet-{window}", Path("U-Net, ResNet-34"))
