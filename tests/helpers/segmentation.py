"""Budget, settings and helper functions for tests of whole segmentation runs."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np

from helpers.networks import LEGEND
from napari_uhrseg.engine.inference.runner import RunContext
from napari_uhrseg.engine.inference.segment import begin, segment
from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.engine.network.profiling import ForwardProfile, Profiler
from napari_uhrseg.engine.planning.plan import make_plan
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import Limits, SegmentSettings

GB = 1024**3
BUDGET = MemoryBudget("cpu", 2 * GB, GB)
# blocks of one chunk, so that small images have several, however fast the machine is
ONE_CHUNK = Limits(block_chunks=1)
SETTINGS = SegmentSettings(
    device="cpu", precision="fp32", batch_size=4, threads=1, limits=ONE_CHUNK
)
AUTO_BATCH = replace(SETTINGS, batch_size=None)


def segmenter(
    folder: Path, settings: SegmentSettings = SETTINGS
) -> Callable[..., tuple[LabelStore, list]]:
    """Return a function that segments an image into a new store in the folder.

    The function takes an image, a checkpoint, settings (those given here if left out)
    and keywords of `segment`. It returns the store, open, and the events.
    """
    numbers = count()

    def run(
        image: Image,
        checkpoint: Checkpoint,
        settings: SegmentSettings = settings,
        **options: object,
    ) -> tuple[LabelStore, list]:
        store = LabelStore.create(folder / f"{next(numbers)}.zarr", image, LEGEND)
        events = segment(image, checkpoint, store, settings, BUDGET, **options)
        return store, list(events)

    return run


def fixed_profiler(
    *,
    batch: Callable[[int], int] = lambda size: 0,
    frame: Callable[[tuple[int, int], int | None], int] = lambda size, rows: 0,
    seconds: float = 1,
) -> type[Profiler]:
    """Return a profiler that measures nothing.

    ``batch`` and ``frame`` return the bytes of a batch of windows and of a frame.
    ``seconds`` is the time of a window or frame.
    """

    class FixedProfiler(Profiler):
        def batch(self, size: int) -> ForwardProfile:
            return ForwardProfile(seconds * size, batch(size))

        def frame(
            self, size: tuple[int, int], rows: int | None = None
        ) -> ForwardProfile:
            return ForwardProfile(seconds, frame(size, rows))

    return FixedProfiler


def begin_run(
    image: Image,
    checkpoint: Checkpoint,
    store: LabelStore,
    settings: SegmentSettings = SETTINGS,
    **options: object,
) -> RunContext:
    """Plan a run and record it in the store; return the context of its runner.

    Parameters
    ----------
    image, checkpoint, store, settings
        As for `segment`.
    **options
        Further fields of the context.
    """
    plan = make_plan(image, checkpoint, settings, BUDGET)
    plan, run = begin(plan, checkpoint.card.legend, store, False, settings)
    options = {"threads": settings.threads, "stop": None} | options
    return RunContext(image, checkpoint, store, plan, run, **options)


def labels_of(store: LabelStore) -> np.ndarray:
    """Return the predicted labels of the finest level, (h, w) uint8."""
    return np.asarray(store.prediction[0][:])


def of_kind(events: list, *kinds: type) -> list:
    """Return the events of some types, in order."""
    return [event for event in events if isinstance(event, kinds)]


def noise_image(height: int, width: int, seed: int) -> Image:
    """Return an RGB image of noise.

    Parameters
    ----------
    height, width
        Size in pixels.
    seed
        Seed of the noise.
    """
    noise = np.random.default_rng(seed)
    data = noise.integers(0, 255, (height, width, 3), np.uint8)
    return image_from_array(data, name="noise", rgb=True)
