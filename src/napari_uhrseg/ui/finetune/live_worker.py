"""Worker functions of the live preview: follow the strokes, save the classifier."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_uhrseg.engine.events import LiveLabels, LiveView
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.registry import LIVE_MODEL
from napari_uhrseg.types import Roi
from napari_uhrseg.ui.finetune.worker import NewModel
from napari_uhrseg.ui.segment.worker import budget_of, checkpoint_of, free_threads
from napari_uhrseg.ui.workers.import_torch import load_torch

if TYPE_CHECKING:
    from napari_uhrseg.engine.finetuning.live_training import LiveTrainer
    from napari_uhrseg.io.labels.store import LabelStore

CACHE_SHARE = 2  # the cache gets one part of so many of the memory budget


@dataclass(slots=True)
class LiveSession:
    """Start and data of a live preview; one worker at a time uses it.

    ``budget_bytes`` is the memory budget on the CPU, of which half is for features; 0:
    the default. ``trainer`` is made by the first worker.
    """

    image: Image
    store: "LabelStore"
    start: Path | NewModel
    budget_bytes: int
    trainer: "LiveTrainer | None" = field(default=None, init=False)


def is_pixel_classifier(path: Path) -> bool:
    """Return whether a checkpoint is a pixel classifier; reads the card only."""
    from napari_uhrseg.models.card_header import read_card

    return read_card(path).model == LIVE_MODEL


def follow(
    session: LiveSession, seen: Roi, stroke: Roi | None
) -> Iterator[LiveView | LiveLabels | None]:
    """Train on all corrections; yield the parts of `LiveTrainer.follow`.

    Parameters
    ----------
    session
        Start and data; its trainer is made if there is none.
    seen
        The view in level-0 pixels.
    stroke
        The last change in level-0 pixels, or None.
    """
    load_torch()
    from napari_uhrseg.engine.network.device import cpu_threads

    with cpu_threads(free_threads()):
        yield None  # a newer job may have been requested meanwhile
        trainer = session.trainer = session.trainer or _made(session)
        yield from trainer.follow(seen, stroke)


def save(session: LiveSession, target: Path) -> Path:
    """Train on all corrections, and write the classifier as a checkpoint."""
    load_torch()
    from napari_uhrseg.engine.network.device import cpu_threads

    with cpu_threads(free_threads()):
        trainer = session.trainer = session.trainer or _made(session)
        return trainer.save(target)


def _made(session: LiveSession) -> "LiveTrainer":
    from napari_uhrseg.engine.finetuning.live_training import LiveTrainer
    from napari_uhrseg.engine.finetuning.new_model import new_checkpoint
    from napari_uhrseg.engine.finetuning.pixel_trainer import CACHE_BYTES

    start, legend = session.start, session.store.legend
    made = (
        new_checkpoint(start.method, None, legend, session.image, start.encoder)
        if isinstance(start, NewModel)
        else checkpoint_of(start)
    )
    budget = budget_of("cpu", session.budget_bytes).device_bytes
    cache = min(CACHE_BYTES, budget // CACHE_SHARE)
    return LiveTrainer(session.image, made, session.store, cache)
