"""Training of a pixel classifier while a user paints, for one view after the other."""

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np

from napari_uhrseg.engine.data.correction_sites import (
    Ints,
    SiteGrid,
    find_points,
    sampled,
)
from napari_uhrseg.engine.events import LiveLabels, LiveView
from napari_uhrseg.engine.finetuning.class_mapping import map_classes
from napari_uhrseg.engine.finetuning.pixel_trainer import (
    CACHE_BYTES,
    balanced,
    run_pixels,
    trainer_of,
)
from napari_uhrseg.engine.finetuning.settings_to_job import fine_tuned_card
from napari_uhrseg.engine.finetuning.training_summary import build_dataset
from napari_uhrseg.engine.tiling.run_pixels import run_region
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import Checkpoint, save_checkpoint
from napari_uhrseg.types import IGNORED, Roi

ONE_CLASS = "A pixel classifier needs two corrected classes."
LARGEST_VIEW = 8  # windows along a side of the view; more are not looked at


class LiveTrainer:
    """Pixel classifier of an image that follows the corrections of a store.

    Parameters
    ----------
    image
        The image that is painted on.
    checkpoint
        A pixel classifier, which is not changed.
    store
        The open labels. The trainer has the classes that they have now.
    cache_bytes
        Memory for feature maps in bytes; see `PixelTrainer`.
    """

    def __init__(
        self,
        image: Image,
        checkpoint: Checkpoint,
        store: LabelStore,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._image, self._checkpoint, self._store = image, checkpoint, store
        match = map_classes(checkpoint, store, [c.id for c in store.legend])
        self._legend, self._channels = match.legend, match.channels
        ids = np.zeros(len(match.legend), np.uint8)
        for i in np.flatnonzero(match.channels != IGNORED)[::-1]:
            if i not in store.aliases:
                ids[match.channels[i]] = i
        self._ids = ids[match.merged]
        self._trainer = trainer_of(image, checkpoint, match.legend, cache_bytes)
        self._sites = SiteGrid(max(image.shape), np.ones((1, 1), np.int32), True)

    def follow(
        self, seen: Roi, stroke: Roi | None = None
    ) -> Iterator[LiveView | LiveLabels | None]:
        """Train on all corrections, and yield the labels of a view part by part.

        The caller may close the generator between two parts. Features that were
        computed are kept. Without two corrected classes, only features are computed.

        Parameters
        ----------
        seen
            The view in level-0 pixels, inside the image.
        stroke
            The last change in level-0 pixels, near which labels come first; ``None``:
            the middle of the view.

        Yields
        ------
        LiveView, LiveLabels or None
            The rectangle that labels will cover, then labels in class ids of the
            store. None after a step without labels.
        """
        trainer, scale = self._trainer, self._trainer.scene.scale
        view = run_region(seen, scale, trainer.scene.shape)
        part = _middle(view, LARGEST_VIEW * trainer.grid.side)
        at, channel = self._painted()
        trains = len(np.unique(channel)) > 1
        if trains:
            for _ in trainer.gathering(at):
                yield None
            trainer.fit(at, channel)
        windows = trainer.nearest(part)
        yield None
        if not trains:
            for _ in trainer.compute(windows):
                yield None
            return
        covered = reduce(Roi.union, windows).intersect(part)
        yield LiveView(covered, scale, len(windows) == trainer.grid.count(view))
        y, x = (seen if stroke is None else stroke).center
        for roi, labels in trainer.labels(windows, (y / scale, x / scale)):
            shown = roi.intersect(covered)
            inside = labels[shown.shift(-roi.y, -roi.x).slices]
            yield LiveLabels(shown, self._ids[inside])

    def save(self, path: Path) -> Path:
        """Train on all corrections, and write the checkpoint.

        Raises
        ------
        TrainingError
            If fewer than two classes are corrected.
        """
        at, channel = self._painted()
        if len(np.unique(channel)) < 2:
            raise TrainingError(ONE_CLASS, "Paint at least two classes.")
        self._trainer.fit(at, channel)
        source = build_dataset(self._image, self._checkpoint, self._store)
        command = f"pixel classifier of {len(at):,} painted pixels"
        card = fine_tuned_card(self._checkpoint, source, path, command, {})
        card = replace(card, legend=self._legend)
        return save_checkpoint(path, self._trainer.model, card)

    def _painted(self) -> tuple[Ints, Ints]:
        """Return the run pixels that are trained on, and their channels."""
        points = find_points(self._store, self._channels, self._sites, sampled)
        return balanced(*run_pixels(points, self._trainer.scene))


def _middle(roi: Roi, side: int) -> Roi:
    """Return the middle of a rectangle, at most ``side`` pixels high and wide."""
    height, width = min(roi.height, side), min(roi.width, side)
    y, x = roi.y + (roi.height - height) // 2, roi.x + (roi.width - width) // 2
    return Roi(y, x, height, width)
