"""Training data of a fine-tuning, and its summary shown before it starts."""

import numpy as np

from napari_uhrseg.engine.data.corrected_images import Images, Stores, image_pairs
from napari_uhrseg.engine.data.correction_sites import MIN_SITES
from napari_uhrseg.engine.finetuning.class_mapping import (
    ClassMapping,
    map_classes,
    unify,
)
from napari_uhrseg.engine.finetuning.correction_collection import (
    CorrectionCollection,
    CorrectionSource,
)
from napari_uhrseg.engine.finetuning.correction_dataset import (
    CorrectionDataset,
    ImageInput,
)
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
    image: Images,
    checkpoint: Checkpoint,
    store: Stores,
    regions: tuple[Roi, ...] | None = None,
    *,
    compares: bool = False,
) -> CorrectionSource:
    """Return the corrections as a data set for the checkpoint's model.

    Corrected classes that the model lacks are added. Bands, value range and scale are
    those of the checkpoint's last run in the store; without a run they are fitted. A
    network without trained weights is trained on all sites, unless it is compared.

    Parameters
    ----------
    image
        The image that was corrected, or several.
    checkpoint
        The checkpoint to fine-tune.
    store
        The labels with the corrections, or those of each image in the same order.
        Images without corrections are left out.
    regions
        Level-0 rectangles to train on, for one image; ``None``: every correction.
    compares
        If True, hold out sites for a network without trained weights, too.

    Raises
    ------
    TrainingError
        If the network cannot be trained, nothing is corrected (in the regions), or the
        store belongs to another image.
    PlanError
        If the image has too few bands.
    """
    _check_trainable(checkpoint)
    corrected = _corrected(image_pairs(image, store), regions)
    matches = [_match(checkpoint, s) for _, s in corrected]
    splits = compares or checkpoint.hash != UNSAVED_HASH
    parts = [
        CorrectionDataset(
            image,
            _image_input(image, checkpoint, store),
            store,
            match,
            checkpoint.card.spec,
            SPLIT_SEED,
            regions,
            splits=splits,
        )
        for (image, store), match in zip(
            corrected, unify(matches, len(checkpoint.card.legend)), strict=True
        )
    ]
    parts = [p for p in parts if len(p.training)]
    if not parts:
        raise _nothing_corrected(regions)
    return parts[0] if len(parts) == 1 else CorrectionCollection(parts, SPLIT_SEED)


def _check_trainable(checkpoint: Checkpoint) -> None:
    """Raise TrainingError for a network that another library runs."""
    if checkpoint.model.external:
        raise TrainingError(
            f"{checkpoint.path.name} is an ONNX network, which cannot be trained "
            "further.",
            "Start from a checkpoint file (.safetensors), or train a new model on the "
            "corrections.",
        )


def _corrected(
    pairs: list[tuple[Image, LabelStore]], regions: tuple[Roi, ...] | None
) -> list[tuple[Image, LabelStore]]:
    """Return the pairs with corrections. Raise TrainingError if none or not allowed."""
    if regions is not None and len(pairs) > 1:
        raise TrainingError(
            f"Regions are given for {len(pairs)} images.",
            "Give regions with one image only.",
        )
    corrected = [(i, s) for i, s in pairs if np.any(read_array(s.correction[-1], ...))]
    if not corrected:
        raise _nothing_corrected(regions)
    return corrected


def _match(checkpoint: Checkpoint, store: LabelStore) -> ClassMapping:
    # a class that is too rare for a coarse pixel has no effect
    ids = np.unique(read_array(store.correction[-1], ...))
    return map_classes(checkpoint, store, [int(i) for i in ids if i])


def _nothing_corrected(regions: tuple[Roi, ...] | None) -> TrainingError:
    return TrainingError(
        "Nothing was corrected" + ("." if regions is None else " in the regions."),
        "Paint over some mistakes (and confirm correct labels), then fine-tune.",
    )


def _image_input(image: Image, checkpoint: Checkpoint, store: LabelStore) -> ImageInput:
    """Return the input of the checkpoint's last run in the store, or a fitted one."""
    spec = checkpoint.card.spec
    runs = [r for r in store.runs if r.checkpoint_hash == checkpoint.hash]
    if runs:
        return ImageInput(runs[-1].bands, runs[-1].value_range, runs[-1].scale)
    bands = fit_bands(image, spec.channels)
    return ImageInput(bands, fit_values(image, spec, bands), fit_scale(image, spec)[0])


def summarize(source: CorrectionSource) -> TrainingSummary:
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
            f"accuracy cannot be estimated: no validation data ({_why_none(source)})"
        )
    elif not source.disjoint:
        warnings.append(
            "corrected regions are close to each other: the model sees the pixels of "
            "validation regions while it trains, but not their labels"
        )
    return TrainingSummary(
        windows=len(np.unique(source.windows[:, 1:], axis=0)),
        held_out=len(source.held_out_samples),
        regions=source.site_count,
        per_class=per_class,
        warnings=tuple(warnings),
        has_validation=source.has_validation,
    )


def _why_none(source: CorrectionSource) -> str:
    """Return the reason why no corrections are held out for validation."""
    if isinstance(source, CorrectionCollection) and source.by_image:
        return "each image has a class that is corrected in no other image"
    if source.site_count < MIN_SITES:
        return f"fewer than {MIN_SITES} separate regions, here {source.site_count}"
    return "each corrected region has a class that no other one has"
