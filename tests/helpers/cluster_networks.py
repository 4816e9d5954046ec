"""Networks that cluster workers can load, and files for them to open."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, ModuleType

import numpy as np
import tifffile
from distributed import WorkerPlugin

from helpers.networks import LEGEND, FrameNet, ToyNet
from napari_uhrseg.models import registry
from napari_uhrseg.models.base import Batch, Outputs
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from napari_uhrseg.types import Card


class Windows(ToyNet):
    """``wait`` seconds a batch, so that there is a midst of a run."""

    def __init__(self, classes: int = 3, window: int = 256, wait: float = 0) -> None:
        super().__init__(window)
        self.wait = wait

    def forward(self, batch: Batch) -> Outputs:
        time.sleep(self.wait)
        return super().forward(batch)


class Frames(FrameNet):
    def __init__(self, classes: int = 3, frame: int = 1088, wait: float = 0) -> None:
        super().__init__(frame, tilt=0.5)
        self.wait = wait

    def forward(self, batch: Batch) -> Outputs:
        time.sleep(self.wait)
        return super().forward(batch)


def install() -> None:
    """Add the networks to the registry of this process."""
    module = ModuleType("napari_uhrseg.models.toys")
    module.Windows, module.Frames = Windows, Frames
    sys.modules[module.__name__] = module
    toys = {
        name: registry.ModelEntry(
            name=name,
            title=name,
            module=f"toys:{name.title()}",
            sentence="",
            published="",
            steps=1,
            batch_size=1,
            learning_rate=0.1,
        )
        for name in ("windows", "frames")
    }
    registry.REGISTRY = MappingProxyType({**registry.REGISTRY, **toys})


@contextmanager
def installed() -> Iterator[None]:
    """Add the networks to the registry until the end of the context."""
    before = registry.REGISTRY
    install()
    try:
        yield
    finally:
        registry.REGISTRY = before


class InstallNetworks(WorkerPlugin):
    """Installs the networks on every worker, restarted ones too."""

    name = "networks"

    def setup(self, worker: object) -> None:
        install()


def save(path: Path, model: str, **arguments: object) -> Checkpoint:
    made = {"windows": Windows, "frames": Frames}[model](**arguments)
    card = Card(model, arguments, LEGEND, made.spec, name=model)
    return load_checkpoint(save_checkpoint(path, made.eval(), card, half=False))


def save_picture(path: Path, height: int, width: int, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed)
    data = noise.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3))
    data = data.repeat(16, 0).repeat(16, 1)[:height, :width]
    data = (data + noise.integers(0, 40, data.shape)).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(path, data, photometric="rgb", tile=(256, 256))
    return path
