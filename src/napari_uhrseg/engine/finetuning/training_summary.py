"""What a fine-tuning will learn from, told before it starts."""

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

FEW_WINDOWS = 5  # windows of a class that teach little
SPLIT_SEED = 0  # decides the held-out places: the same whatever a training's seed


def build_dataset(
    image: Image,
    checkpoint: Checkpoint,
    store: LabelStore,
    places: tuple[Roi, ...] | None = None,
) -> CorrectionDataset:
    """The corrections as a source for the checkpoint's model, classes it lacks added.

    Bands, values and scale are those of the checkpoint's last run in the store, so
    that it learns from what it saw; without one they are fitted. A network that starts
    from nothing learns from every place.

    Raises
    ------
    TrainingError
        Nothing was corrected (there), or the store is of another image.
    PlanError
        The image has too few bands.
    """
    if store.shape != image.shape:
        raise TrainingError(
            f"{image.name} has {image.shape[0]} rows and {image.shape[1]} columns, "
            f"the labels {store.shape[0]} and {store.shape[1]}.",
            "Choose the image that was corrected.",
        )
    was, now = store.info.fingerprint, image.fingerprint
    if was and now and was != now:
        raise TrainingError(
            f"{image.name} has other contents than the image that was corrected, "
            f"{store.info.path or store.name}.",
            "Choose the image that was corrected.",
        )
    spec = checkpoint.card.spec
    # a class so rare that no coarse pixel shows it would not teach either
    ids = np.unique(read_array(store.correction[-1], ...))
    match = map_classes(checkpoint, store, [int(i) for i in ids if i])
    runs = [r for r in store.runs if r.checkpoint_hash == checkpoint.hash]
    how = ImageInput(
        bands=runs[-1].bands if runs else fit_bands(image, spec.channels),
        value_range=runs[-1].value_range if runs else fit_values(image, spec),
        scale=runs[-1].scale if runs else fit_scale(image, spec)[0],
    )
    source = CorrectionDataset(
        image,
        how,
        store,
        match,
        spec,
        SPLIT_SEED,
        places,
        splits=checkpoint.hash != UNSAVED_HASH,
    )
    if not len(source.training):
        raise TrainingError(
            "Nothing was corrected" + ("." if places is None else " there."),
            "Paint over some mistakes (and over what is right), then fine-tune.",
        )
    return source


def summarize(source: CorrectionDataset) -> TrainingSummary:
    """The source in numbers and warnings."""
    names = [c.name for c in source.legend]
    channels, counts = np.unique(source.windows[:, 0], return_counts=True)
    per_class = {names[k]: int(n) for k, n in zip(channels, counts, strict=True)}
    warnings = [
        f"class {name} has only {count}"
        for name, count in per_class.items()
        if count < FEW_WINDOWS
    ]
    if len(per_class) == 1:
        warnings.append(
            f"{next(iter(per_class))} is the only class that was corrected: "
            "correct others too, or everything may become it"
        )
    if not source.splits:
        warnings.append(
            "a network that starts from nothing learns from all of them: no honest "
            "figure can be had"
        )
    elif not source.has_validation:
        warnings.append(
            f"corrections lie in {counted(source.site_count, 'place')}: with fewer "
            f"than {MIN_SITES} that are apart, no honest figure can be had"
        )
    elif not source.places.apart:
        warnings.append(
            "places lie so close to each other that the network sees held-out ground "
            "while it learns, though not its labels"
        )
    return TrainingSummary(
        windows=len(np.unique(source.windows[:, 1:], axis=0)),
        held_out=len(source.held_out_windows),
        regions=source.site_count,
        per_class=per_class,
        warnings=tuple(warnings),
        has_validation=source.has_validation,
    )
