"""Compare bf16 with fp32: labels, mIoU and seconds of every sample checkpoint.

The sample scene is segmented in fp32 and in bf16 on the CPU; the truth comes with it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from common import sample
from rich.table import Table

from napari_uhrseg.engine.evaluation.metrics import ConfusionMatrix
from napari_uhrseg.engine.events import Finished
from napari_uhrseg.engine.inference.segment import segment
from napari_uhrseg.io.image.from_array import image_from_array
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image
from napari_uhrseg.models.checkpoint import Checkpoint, load_checkpoint
from napari_uhrseg.types import Labels, Roi, SegmentSettings


@dataclass(frozen=True)
class Size:
    """Methods, side in pixels of the square that is labelled, and windows a batch."""

    methods: tuple[str, ...] = (
        "plain", "scpseg", "sgnet", "isdnet", "glnet", "ehsnet"
    )  # fmt: skip
    side: int = 4096
    batch: int | None = None


FULL, TINY = Size(), Size(("plain",), 64, 1)


def run(image: Path | None, checkpoint: Path | None, size: Size = FULL) -> Table:
    """Label the sample scene in both precisions; takes no image."""
    del image  # the truth is that of the sample scene
    scene = open_image(sample("scene.tif"))
    with rasterio.open(sample("scene_labels.tif")) as file:
        truth = file.read(1)[: size.side, : size.side]  # class ids from 1 on
    if size.side < min(scene.shape):  # a run labels whole chunks
        pixels = scene.read(Roi(0, 0, size.side, size.side)).data
        scene = image_from_array(pixels, name=scene.name, rgb=True)
    table = Table(
        "method", "same label", "mIoU fp32", "mIoU bf16", "fp32", "bf16", "ratio"
    )
    table.title = f"bf16 against fp32, {scene.name}, {truth.shape} pixels"
    samples = [sample(f"{n}.safetensors") for n in size.methods]
    for path in [checkpoint] if checkpoint else samples:
        loaded = load_checkpoint(path)
        (full, slow), (short, quick) = (
            _labels(scene, loaded, precision, size) for precision in ("fp32", "bf16")
        )
        table.add_row(
            path.stem,
            f"{(full == short).mean():.2%}",
            *(f"{_miou(loaded, found, truth):.2%}" for found in (full, short)),
            f"{slow:.1f} s",
            f"{quick:.1f} s",
            f"{quick / slow:.2f}",
        )
    return table


def _labels(
    scene: Image, checkpoint: Checkpoint, precision: str, size: Size
) -> tuple[Labels, float]:
    side = size.side
    settings = SegmentSettings(
        "cpu",
        precision=precision,
        region=Roi(0, 0, side, side),
        scale=1,
        batch_size=size.batch,
    )
    with LabelStore.create(None, scene, checkpoint.card.legend) as store:
        *_, last = segment(scene, checkpoint, store, settings)
        assert isinstance(last, Finished)
        return np.asarray(store.prediction[0][:side, :side]), last.seconds


def _miou(checkpoint: Checkpoint, labels: Labels, truth: Labels) -> float:
    counter = ConfusionMatrix([c.name for c in checkpoint.card.legend.classes])
    counter.add(labels - np.uint8(1), truth - np.uint8(1))
    return counter.scores().miou
