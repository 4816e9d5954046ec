"""Questions that the user must answer before a run starts.

A run does not start by itself at a scale beyond `MOST_SCALE`, with bands of unknown
colour, at an unknown pixel size, or with classes that the labels lack. Settings answer
a question: `scale`, `bands`, `class_names` or `add_classes`. An earlier run of the same
checkpoint in the same labels answers it too.
"""

from dataclasses import dataclass, replace
from typing import Literal

from napari_uhrseg.engine.planning.image_fit import (
    MOST_SCALE,
    colors_known,
    fit_bands,
    fit_scale,
    scale_ratio,
)
from napari_uhrseg.errors import PlanError, StoreError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import InputSpec, LabelClass, Legend, Run, SegmentSettings
from napari_uhrseg.units import counted, format_length, formatted, quoted

Topic = Literal["pixel_size", "scale", "bands", "classes"]


@dataclass(frozen=True, slots=True)
class RunQuestion:
    """Question before a run.

    Attributes
    ----------
    topic
        Subject of the question.
    text
        Difference between the checkpoint and the image or the labels; names both.
    answer
        Ways to answer it, as imperative sentences.
    missing
        Classes of the checkpoint that the labels lack, for the topic "classes".
    pixel_size
        Pixel size of the training in metres, for the topic "pixel_size".
    """

    topic: Topic
    text: str
    answer: str
    missing: tuple[str, ...] = ()
    pixel_size: float | None = None


@dataclass(frozen=True, slots=True)
class ClassIds:
    """Class ids of a store for the channels of a network.

    Attributes
    ----------
    ids
        One id per channel; 0: no label.
    added
        Classes that the store lacks and that the run adds.
    unanswered
        Names of the added classes that no setting mentions.
    """

    ids: tuple[int, ...]
    added: Legend
    unanswered: tuple[str, ...]


def image_questions(
    image: Image, spec: InputSpec, settings: SegmentSettings
) -> tuple[RunQuestion, ...]:
    """Return the questions about the pixel size and the bands of an image.

    Parameters
    ----------
    image
        The image to be segmented.
    spec
        The input specification of the network.
    settings
        Settings of the user; a scale or bands in them are answers.
    """
    scale = None if settings.scale is not None else _scale_question(image, spec)
    bands = None if settings.bands is not None else _bands_question(image, spec)
    return tuple(q for q in (scale, bands) if q is not None)


def _scale_question(image: Image, spec: InputSpec) -> RunQuestion | None:
    if spec.pixel_size is None:
        return None
    trained = (
        f"The checkpoint was trained at {format_length(spec.pixel_size)} per pixel"
    )
    if image.meters_per_pixel is None:
        return RunQuestion(
            "pixel_size",
            f"{trained}. The pixel size of {image.name} is unknown.",
            "Give the scale, which is the pixel size of the training divided by that "
            "of the image (Scale, --scale). It is 1 if both are equal.",
            pixel_size=spec.pixel_size,
        )
    if scale_ratio(image, spec) <= MOST_SCALE:
        return None
    scale = fit_scale(image, spec)[0]
    return RunQuestion(
        "scale",
        f"{trained}, and {image.name} has {format_length(image.meters_per_pixel)} per "
        f"pixel. The image would be read at scale {formatted(scale, '.3g')}.",
        f"Choose a checkpoint of a similar pixel size, or confirm the scale (Scale, "
        f"--scale {scale:.6g}).",
    )


def _bands_question(image: Image, spec: InputSpec) -> RunQuestion | None:
    wanted, bands = spec.channels, image.bands
    if len(bands) == wanted or (len(bands) < wanted and len(bands) > 1):
        return None  # the same bands, or too few, which the plan refuses
    if wanted == 3 and colors_known(image):
        return None
    chosen = ",".join(map(str, fit_bands(image, wanted)))
    takes = f"The checkpoint takes {counted(wanted, 'band')}, and {image.name} has"
    confirm = f"Choose the bands (Channels, --bands {chosen})"
    if len(bands) == 1:
        return RunQuestion(
            "bands",
            f"{takes} one: {bands[0].name}. It would be used for every channel.",
            f"{confirm}, or a checkpoint of one band.",
        )
    names = ", ".join(band.name for band in bands)
    colors = "red, green and blue" if wanted == 3 else "those of the training"
    return RunQuestion(
        "bands",
        f"{takes} {len(bands)}: {names}. The image does not state which of them are "
        f"{colors}.",
        f"{confirm}, in the order of the training. These are the first ones.",
    )


def class_ids(
    network: Legend,
    store: LabelStore,
    settings: SegmentSettings,
    checkpoint_hash: str = "",
) -> ClassIds:
    """Return the class ids that a run gives to the channels of its network.

    The setting ``class_names`` decides, then the last run of the same checkpoint in
    the store, then the names of the classes.

    Parameters
    ----------
    network
        Classes of the network.
    store
        The labels.
    settings
        Settings of the user.
    checkpoint_hash
        Hash of the checkpoint; empty if unknown.

    Raises
    ------
    PlanError
        If ``class_names`` contains a class that network or store lack.
    StoreError
        If the store cannot take the classes.
    """
    names = dict(settings.class_names)
    _check_names(names, network, store)
    before = _last_ids(store, checkpoint_hash, len(network))
    found: list[LabelClass | int] = []
    unanswered = []
    for k, own in enumerate(network):
        name = names.get(own.name)
        if name == "" or (name is None and before):
            found.append(before[k] if name is None else 0)
            continue
        known = store.legend.named(name or own.name)
        found.append(own if known is None else known.id)
        if known is None and name is None and not settings.add_classes:
            unanswered.append(own.name)
    added = Legend(tuple(c for c in found if isinstance(c, LabelClass)))
    try:
        legend = store.legend_editor.merged(added)
    except ValueError as error:
        raise StoreError(
            f"{store.path} cannot take the classes of this network: {error}.",
            "Choose another output.",
        ) from error
    new = {c.name: c.id for c in legend}
    ids = tuple(c if isinstance(c, int) else new[c.name] for c in found)
    return ClassIds(ids, added, tuple(unanswered))


def open_questions(
    questions: tuple[RunQuestion, ...], run: Run, classes: ClassIds, store: LabelStore
) -> tuple[RunQuestion, ...]:
    """Return the questions of a run that neither settings nor earlier runs answer.

    Parameters
    ----------
    questions
        Questions of the plan, from `image_questions`.
    run
        Record of the planned run.
    classes
        Classes of the run.
    store
        The labels.
    """
    same = [r for r in store.runs if r.checkpoint_hash == run.checkpoint_hash != ""]
    answered = {
        "bands": any(r.bands == run.bands for r in same),
        "scale": any(r.scale == run.scale for r in same),
    }
    answered["pixel_size"] = answered["scale"]
    asked = [q for q in questions if not answered.get(q.topic)]
    if classes.unanswered:
        asked.append(_classes_question(classes.unanswered, store))
    return tuple(asked)


def check_answered(questions: tuple[RunQuestion, ...]) -> None:
    """Raise PlanError with the open questions, if there are any."""
    if questions:
        raise PlanError(
            " ".join(q.text for q in questions), " ".join(q.answer for q in questions)
        )


def accepted(
    settings: SegmentSettings, image: Image, spec: InputSpec
) -> SegmentSettings:
    """Return settings that confirm the default scale, bands and classes.

    Parameters
    ----------
    settings
        Settings of the user. A scale and bands in them are kept.
    image
        The image to be segmented, such as the one that the network was trained on.
    spec
        The input specification of the network.
    """
    scale = fit_scale(image, spec)[0] if settings.scale is None else settings.scale
    bands = fit_bands(image, spec.channels, settings.bands)
    return replace(settings, scale=scale, bands=bands, add_classes=True)


def _classes_question(missing: tuple[str, ...], store: LabelStore) -> RunQuestion:
    where = "the labels" if store.temporary else f"the labels in {store.path}"
    shown = [c.name for c in store.legend if c.id not in store.aliases]
    return RunQuestion(
        "classes",
        f"The checkpoint has classes that {where} lack: {quoted(missing)}. The labels "
        f"have: {quoted(shown)}.",
        f"Map each to a class of the labels (--map-class {missing[0]}=NAME, or "
        f"{missing[0]}= for no label), add them (--add-classes), or choose another "
        "output.",
        missing,
    )


def _check_names(names: dict[str, str], network: Legend, store: LabelStore) -> None:
    own = [c.name for c in network]
    for name, target in names.items():
        if name not in own:
            raise PlanError(
                f"The checkpoint has no class {name!r}.", f"Classes: {quoted(own)}."
            )
        if target not in ("", name) and store.legend.named(target) is None:
            raise PlanError(
                f"The labels have no class {target!r}.",
                f"Classes: {quoted(c.name for c in store.legend)}.",
            )


def _last_ids(store: LabelStore, checkpoint_hash: str, count: int) -> tuple[int, ...]:
    """Return the class ids of the last run of a checkpoint; empty without one."""
    for run in reversed(store.runs):
        if checkpoint_hash and run.checkpoint_hash == checkpoint_hash:
            return run.class_map if len(run.class_map) == count else ()
    return ()
