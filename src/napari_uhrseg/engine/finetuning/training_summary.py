"""Training data of a fine-tuning, and its summary shown before it starts."""

import numpy as np

from napari_uhrseg.engine.finetuning.class_mapping import map_classes
from napari_uhrseg.engine.finetuning.correction_dataset import (
    CorrectionDataset,
    ImageInput,
)
from napari_uhrseg.engine.finetuning.correction_sites import MIN_SITES
from napari_uhrseg.engine.planning.image_fit import fit_bands, fit_scale, fit_values
from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.pyramid import read_array
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import UNSAVED_HASH, Checkpoint
from napari_uhrseg.types import Roi, TrainingSummary
from napari_uhrseg.units import counted

FEW_WINDOWS = 5  # of a class; fewer cause a warning
SPLIT_SEED = 0  # of the validation sites, independent of the training's seed


def build_dataset(
    image: Image,
    checkpoint: Checkpoint,
    store: LabelStore,
    regions: tuple[Roi, ...] | None = None,
    *,
    compares: bool = False,
) -> CorrectionDataset:
    """Return the corrections as a data set for the checkpoint's model.

    Corrected classes that the model lacks are added. Bands, value range and scale are
    those of the checkpoint's last run in the store; without a run they are fitted. A
    network without trained weights is trained on all sites, unless it is compared.

    Parameters
    ----------
    image
        The image that was corrected.
    checkpoint
        The checkpoint to fine-tune.
    store
        The labels with the corrections.
    regions
        Level-0 rectangles to train on; ``None``: every correction.
    compares
        If True, hold out sites for a network without trained weights, too.

    Raises
    ------
    TrainingError
        If nothing is corrected (in the regions), or the store belongs to another image.
    PlanError
        If the image has too few bands.
    """
    _check_image(image, store)
    spec = checkpoint.card.spec
    # a class that is too rare for a coarse pixel has no effect
    ids = np.unique(read_array(store.correction[-1], ...))
    match = map_classes(checkpoint, store, [int(i) for i in ids if i])
    source = CorrectionDataset(
        image,
        _image_input(image, checkpoint, store),
        store,
        match,
        spec,
        SPLIT_SEED,
        regions,
        splits=compares or checkpoint.hash != UNSAVED_HASH,
    )
    if not len(source.training):
        raise TrainingError(
            "Nothing was corrected" + ("." if regions is None else " in the regions."),
            "Paint over some mistakes (and confirm correct labels), then fine-tune.",
        )
    return source


def _image_input(image: Image, checkpoint: Checkpoint, store: LabelStore) -> ImageInput:
    """Return the input of the checkpoint's last run in the store, or a fitted one."""
    spec = checkpoint.card.spec
    runs = [r for r in store.runs if r.checkpoint_hash == checkpoint.hash]
    if runs:
        return ImageInput(runs[-1].bands, runs[-1].value_range, runs[-1].scale)
    bands = fit_bands(image, spec.channels)
    return ImageInput(bands, fit_values(image, spec, bands), fit_scale(image, spec)[0])


def _check_image(image: Image, store: LabelStore) -> None:
    """Raise TrainingError if a store does not belong to an image."""
    if store.shape != image.shape:
        raise TrainingError(
            f"{image.name} has {image.shape[0]} rows and {image.shape[1]} columns, "
            f"the labels {store.shape[0]} and {store.shape[1]}.",
            "Choose the image that was corrected.",
        )
    was, now = store.info.fingerprint, image.fingerprint
    if was and now and was != now:
        raise TrainingError(
            f"{image.name} differs from the image that was corrected, "
            f"{store.info.path or store.name}.",
            "Choose the image that was corrected.",
        )


def summarize(source: CorrectionDataset) -> TrainingSummary:
    """Return the counts and warnings of a data set."""
    names = [c.name for c in source.legend]
    channels, counts = np.unique(source.windows[:, 0], return_counts=True)
    per_class = {names[k]: int(n) for k, n in zip(channels, counts, strict=True)}
    warnings = [
        f"{name}: only {counted(count, 'window')}"
        for name, count in per_class.items()
        if count < FEW_WINDOWS
    ]
    if len(per_class) == 1:
        warnings.append(
            f"{next(iter(per_class))} is the only corrected class: correct other "
            "classes too, or the model may predict this class everywhere"
        )
    if not source.splits:
        warnings.append(
            "a model trained from scratch uses all corrections: accuracy cannot be "
            "estimated"
        )
    elif not source.has_validation:
        warnings.append(
            f"accuracy cannot be estimated: no validation data (fewer than {MIN_SITES} "
            f"separate regions, here {source.site_count})"
        )
    elif not source.sites.disjoint:
        warnings.append(
            "corrected regions are close to each other: the model sees the pixels of "
            "validation regions while it trains, but not their labels"
        )
    return TrainingSummary(
        windows=len(np.unique(source.windows[:, 1:], axis=0)),
        held_out=len(source.held_out_windows),
        regions=source.site_count,
        per_class=per_class,
        warnings=tuple(warnings),
        has_validation=source.has_validation,
    )
