"""Parts of ``bench_pipeline`` that record when they work: device, image and store."""

import threading
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from bench_pipeline import WINDOW
from torch import nn

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.base import Batch, Outputs, Segmenter
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import (
    Card,
    InputSpec,
    LabelClass,
    Legend,
    Recipe,
    Stage,
    View,
)

Spans = list[tuple[str, float, float]]
LEGEND = Legend((LabelClass(1, "low", "#4477aa"), LabelClass(2, "high", "#ee6677")))
RECORDS: list[Spans] = []  # a run uses a copy of the network, which shares this


class Queue:
    """Queue of a device, which computes one part of a batch at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = 0.0  # when all that was submitted is computed

    def submit(self, seconds: float) -> tuple[float, float]:
        """Return when the device begins and ends some work, which waits its turn."""
        with self._lock:
            start = max(time.perf_counter(), self._free)
            self._free = start + seconds
            return start, self._free


DEVICE = Queue()


class StandIn(Segmenter):
    """Network that waits as long as a device of some speed computes.

    Parameters
    ----------
    speed
        Megapixels/s of the device; 0: it takes no time.
    """

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.spec = InputSpec(views={"local": View(WINDOW, WINDOW)}, window=WINDOW)
        self.recipe = Recipe(stages=(Stage(1, 0.1),), batch_size=1)
        self.speed = speed
        self.unused = nn.Conv2d(3, 2, 1)
        wave = torch.sin(torch.arange(WINDOW) / 20)
        areas = 3 * torch.outer(wave, wave)
        self.register_buffer("areas", torch.stack([areas, -areas]))

    def forward(self, batch: Batch) -> Outputs:
        """Wait, and return the same areas for every window."""
        count = len(batch)
        start, end = DEVICE.submit(
            count * WINDOW**2 / 1e6 / self.speed if self.speed else 0.0
        )
        time.sleep(max(0.0, end - time.perf_counter()))
        for spans in RECORDS:
            spans.append(("compute", start, end))
        return {"logits": self.areas.expand(count, 2, WINDOW, WINDOW)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Any]:
        """Raise an error: it is not trained."""
        raise NotImplementedError


def stand_in(speed: float, spans: Spans) -> Checkpoint:
    """Return the stand-in as a checkpoint that records in ``spans``."""
    RECORDS[:] = [spans]
    model = StandIn(speed).eval()
    card = Card("plain", {}, LEGEND, model.spec, name="stand-in")
    return Checkpoint(model, card, f"stand-in-{speed}", Path("stand-in"))


def recorded_image(file: Path, spans: Spans) -> Image:
    """Open an image that records when it is read."""

    class Recorded(Image):
        def read(self, *args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            found = super().read(*args, **kwargs)
            spans.append(("read", start, time.perf_counter()))
            return found

    image = open_image(file)
    return Recorded(**{f.name: getattr(image, f.name) for f in fields(image)})


def recorded_store(image: Image, checkpoint: Checkpoint, spans: Spans) -> LabelStore:
    """Create a temporary store that records when it is written."""

    class Recorded(LabelStore):
        def write(self, *args: Any, **kwargs: Any) -> None:
            start = time.perf_counter()
            super().write(*args, **kwargs)
            spans.append(("write", start, time.perf_counter()))

    return Recorded.create(None, image, checkpoint.card.legend)
