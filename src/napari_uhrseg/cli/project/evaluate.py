"""``project evaluate``: compare a checkpoint's labels with corrections."""

from functools import partial
from typing import TYPE_CHECKING

from napari_uhrseg.cli.console import err, interruptible, warn
from napari_uhrseg.cli.evaluate import (
    LabelledImage,
    ReportFiles,
    ReportOption,
    score_images,
)
from napari_uhrseg.cli.project.opened import (
    ImageChoice,
    OpenedProject,
    ProjectArgument,
    finish,
)
from napari_uhrseg.cli.runs.batch import Failure, Report
from napari_uhrseg.cli.shared_options import (
    CheckpointOption,
    InferenceHardware,
    JsonOption,
    OverlapOption,
    OverwriteOption,
    expand_options,
)
from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.project.project import Project, ProjectImage
from napari_uhrseg.types import SegmentSettings

if TYPE_CHECKING:
    from napari_uhrseg.engine.evaluation.metrics import Scores
    from napari_uhrseg.engine.network.device import MemoryBudget
    from napari_uhrseg.models.checkpoint import Checkpoint


@expand_options
def evaluate(
    project: ProjectArgument,
    checkpoint: CheckpointOption,
    choice: ImageChoice,
    hardware: InferenceHardware,
    overlap: OverlapOption = None,
    report: ReportOption = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Segment images of a project, and compare with their corrections by class.

    Only corrected pixels are compared. Scores are reliable for images on which the
    checkpoint was not trained; choose them with --image. Corrected classes that the
    checkpoint does not have are left out. The labels of the project are not changed.
    """
    files = ReportFiles.checked(report, overwrite)
    with err.status("Loading torch and the checkpoint"):
        from napari_uhrseg.models.checkpoint import load_checkpoint

        loaded, budget = load_checkpoint(checkpoint), hardware.budget()
    settings = SegmentSettings(
        device=hardware.device, precision=hardware.precision, overlap=overlap
    )
    opened = OpenedProject.at(project, allow_outside=choice.allow_outside)
    current, images = opened.chosen(choice)
    scored = Report("scored", done=[i.path for i in images])

    def failed(name: str, error: UhrSegError) -> None:
        scored.done.remove(name)
        scored.failed.append(Failure(name, error.message, error.hint))
        if not json:
            warn(f"{name}: {error}")

    scenes = [
        LabelledImage(
            i.path, partial(_score, opened, current, i, loaded, settings, budget)
        )
        for i in images
    ]
    with interruptible("Nothing was saved."):
        files.write(score_images(scenes, failed, json=json))
    if scored.failed:
        finish(scored, json=json)


def _score(
    opened: OpenedProject,
    project: Project,
    image: ProjectImage,
    checkpoint: "Checkpoint",
    settings: SegmentSettings,
    budget: "MemoryBudget | None",
) -> "Scores":
    """Return the scores of a checkpoint on the corrections of an image."""
    from napari_uhrseg.engine.evaluation.evaluate import evaluate as score
    from napari_uhrseg.engine.finetuning.correction_truth import correction_truth
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.open import open_image

    with LabelStore.open(opened.labels(image)) as store:
        truth = correction_truth(store, checkpoint)
        scene = open_image(opened.image(image, project))
        return score(scene, truth, checkpoint, settings, budget, truth.merged)
