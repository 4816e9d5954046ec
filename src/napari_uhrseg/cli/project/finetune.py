"""``project finetune``: one model from the corrections of several images."""

from napari_uhrseg.cli.finetune import (
    CheckpointToTune,
    FineTuneOptions,
    NewModelOption,
    ThoroughOption,
    TuningRun,
)
from napari_uhrseg.cli.project.opened import (
    ImageChoice,
    OpenedProject,
    ProjectArgument,
)
from napari_uhrseg.cli.shared_options import (
    DryRunOption,
    JsonOption,
    OutputCheckpointOption,
    OverwriteOption,
    TrainingHardware,
    expand_options,
)
from napari_uhrseg.errors import ProjectError


@expand_options
def finetune(
    project: ProjectArgument,
    output: OutputCheckpointOption,
    choice: ImageChoice,
    checkpoint: CheckpointToTune = None,
    model: NewModelOption = None,
    thorough: ThoroughOption = False,
    *,
    options: FineTuneOptions,
    hardware: TrainingHardware,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Fine-tune a checkpoint or train a new model on the corrections of a project.

    All chosen images with corrections are used. With at least three of them, whole
    images are held out for validation; otherwise, corrected regions are. Scores are
    printed for each class and each validation image. The new checkpoint is added to
    the project.
    """
    from napari_uhrseg.io.project.project_stores import observed_state

    run = TuningRun(checkpoint, model, output, thorough, options, hardware)
    opened = OpenedProject.at(project, allow_outside=choice.allow_outside)
    current, images = opened.chosen(choice)
    pairs = [
        (labels, opened.image(image, current))
        for image in images
        if observed_state(labels := opened.labels(image)) == "corrected"
    ]
    if not pairs:
        raise ProjectError(
            f"No chosen image of {opened.file.name} has corrections.",
            "Correct the labels of some images first.",
        )
    run.start(pairs, dry_run=dry_run, overwrite=overwrite, json=json)
    if not dry_run:
        listed = opened.paths.relative(output)
        opened.file.update(lambda current: current.with_checkpoint(listed))
