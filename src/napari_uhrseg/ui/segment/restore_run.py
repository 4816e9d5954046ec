"""Choice of the checkpoint and settings of the last run of opened labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import Card, Run, SegmentSettings
from napari_uhrseg.ui.segment.settings import SegmentForm
from napari_uhrseg.ui.segment.worker import remembered_checkpoint
from napari_uhrseg.ui.workers.worker import Workers

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore


@dataclass(frozen=True, slots=True)
class RunChoice:
    """Checkpoint and settings of a run, as the form shows them.

    Attributes
    ----------
    checkpoint
        File of the checkpoint.
    settings
        Values of the form; None for a value that the plan chooses.
    """

    checkpoint: Path
    settings: dict[str, Any]


def restore_run(
    form: SegmentForm, workers: Workers, store: "LabelStore", image: Image
) -> None:
    """Choose the checkpoint and the settings of the last run of labels.

    Labels without a run change nothing. A worker looks for the checkpoint: the chosen
    file, the file that made labels in this program, then the known checkpoints.

    Parameters
    ----------
    form
        Form of the next run.
    workers
        Workers of the panel.
    store
        Opened labels.
    image
        Image of the labels.
    """
    if not store.runs:
        return
    run, before = store.runs[-1], form.model.path

    def found(choice: RunChoice | None) -> None:
        if before is not None and form.model.path != before:
            return  # the user has chosen another checkpoint
        if choice is None:
            form.model.report_missing(run.checkpoint)
            return
        form.model.use(choice.checkpoint, lambda: form.set_settings(choice.settings))

    workers.call(_choice_of, run, before, form.model.known(), image, returned=found)


def _choice_of(
    run: Run, chosen: Path | None, known: Mapping[Path, Card], image: Image
) -> RunChoice | None:
    from napari_uhrseg.models.card_header import read_card
    from napari_uhrseg.models.checkpoint import file_hash

    path = chosen
    if path is None or not path.is_file() or file_hash(path) != run.checkpoint_hash:
        path = remembered_checkpoint(run.checkpoint_hash) or _same_file(run, known)
    if path is None:
        return None
    return RunChoice(path, settings_of(run, read_card(path), image))


def _same_file(run: Run, known: Mapping[Path, Card]) -> Path | None:
    """Return the known checkpoint with the hash of the run's, or None."""
    from napari_uhrseg.models.checkpoint import file_hash

    for path, card in known.items():
        named = (card.name or path.name) == run.checkpoint
        same = card.model == run.model and named and path.is_file()
        if same and file_hash(path) == run.checkpoint_hash:
            return path
    return None


def settings_of(run: Run, card: Card, image: Image) -> dict[str, Any]:
    """Return the settings that make the same run again.

    Parameters
    ----------
    run
        Record of the run.
    card
        Card of its checkpoint.
    image
        Image of the labels.

    Returns
    -------
    Values of `SegmentSettings` by name; None for those that the plan chooses equally
    and without a question.
    """
    from napari_uhrseg.engine.network.device import choose_precision, find_device
    from napari_uhrseg.engine.planning.image_fit import fit_bands, fit_scale, fit_values
    from napari_uhrseg.engine.planning.run_questions import image_questions

    spec = card.spec
    too_few = 1 < len(image.bands) < spec.channels
    bands = None if too_few else fit_bands(image, spec.channels)
    values = fit_values(image, spec, run.bands)
    scale = fit_scale(image, spec)[0]
    asked = {q.topic for q in image_questions(image, spec, SegmentSettings())}
    same_bands = run.bands == bands and "bands" not in asked
    same_scale = isclose(run.scale, scale, rel_tol=1e-9) and not asked - {"bands"}
    default = choose_precision("auto", find_device("auto"))
    return {
        "bands": None if same_bands else run.bands,
        "value_range": None if run.value_range == values else run.value_range,
        "scale": None if same_scale else run.scale,
        "overlap": None if run.overlap == spec.overlap else run.overlap,
        "skip_background": run.skip_background or not image.is_slide,
        "precision": "auto" if run.precision == default else run.precision,
    }
