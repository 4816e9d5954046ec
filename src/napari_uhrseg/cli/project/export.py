"""``project export`` and ``report``: files of all labels, and a table of the images."""

import csv
import io
from contextlib import ExitStack, closing
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from napari_uhrseg.cli.console import (
    bad_parameter,
    interruptible,
    json_line,
    out,
    run_steps,
    warn,
)
from napari_uhrseg.cli.export import (
    ExportChoices,
    FormatOption,
    SimplifyOption,
    SmoothOption,
    check_clean_up,
    export_store,
)
from napari_uhrseg.cli.measure.clean_up import CleanUpOptions, cleaned_labels
from napari_uhrseg.cli.project.opened import (
    ImageChoice,
    OpenedProject,
    ProjectArgument,
    finish,
    reported,
)
from napari_uhrseg.cli.runs.batch import Report
from napari_uhrseg.cli.shared_options import (
    JsonOption,
    OverwriteOption,
    expand_options,
)
from napari_uhrseg.io.project.project import Project, ProjectImage

LEAST_MOVED = 0.01  # pixels by which images are moved that are reported


@expand_options
def export(
    project: ProjectArgument,
    output: Annotated[Path, typer.Option(help="Folder for the files.")],
    format_name: FormatOption,
    choice: ImageChoice,
    clean: CleanUpOptions,
    simplify: SimplifyOption = 0.0,
    smooth: SmoothOption = 0.0,
    merge: Annotated[
        bool,
        typer.Option(
            "--merge",
            help="Write one file to --output: a mosaic (cog), or polygons with the "
            "field image (geopackage).",
        ),
    ] = False,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Export the displayed labels of the images of a project, one file for each.

    A file has the name of the image with the suffix of the format, and a number if
    several images have the name. An image that fails is reported, and the others
    continue. With --merge, there is one file of all images, which must have one
    coordinate system. Where images overlap in a mosaic, the first one counts. A
    clean-up changes the output and not the labels.
    """
    from napari_uhrseg.io.export.registry import check_request

    opened = OpenedProject.at(project, allow_outside=choice.allow_outside)
    current, images = opened.chosen(choice)
    clean_up = clean.clean_up()
    check_clean_up(format_name, clean_up)
    options = ExportChoices(format_name, simplify, smooth, overwrite, clean_up)
    if merge:
        _export_merged(opened, images, output, options, json=json)
        return
    stems = _stems(current)
    with bad_parameter("--format"):
        of = check_request(format_name, output / "labels", simplify, smooth)
    report = Report("exported")
    with interruptible("Complete files are kept.") as watch:
        for image in images:
            with reported(image, report, json=json):
                target = output / f"{stems[image.path]}{of.suffix}"
                export_store(opened.labels(image), target, options, watch, json=json)
    finish(report, json=json)


def _export_merged(
    opened: OpenedProject,
    images: tuple[ProjectImage, ...],
    output: Path,
    options: ExportChoices,
    *,
    json: bool,
) -> None:
    """Write one file of all images; those that cannot be opened are reported."""
    from napari_uhrseg.io.export.merged import check_merged, export_merged, rounding
    from napari_uhrseg.io.labels.store import LabelStore

    name, simplify, smooth, overwrite, clean_up = options
    with bad_parameter("--format"):
        check_merged(name, output, simplify, smooth)
    report = Report("exported")
    with interruptible("Nothing was written.") as watch, ExitStack() as stack:
        stores = []
        for image in images:
            with reported(image, report, json=json):
                store = stack.enter_context(LabelStore.open(opened.labels(image)))
                cleaned = cleaned_labels(store, clean_up, watch, json=json)
                stores.append((image.path, stack.enter_context(cleaned)))
        if stores:
            steps = export_merged(
                stores, output, name,
                simplify=simplify, smooth=smooth, overwrite=overwrite,
            )  # fmt: skip
            with closing(steps):  # type: ignore[type-var] # a generator, annotated as an iterator
                run_steps(watch(steps), "Exporting", json)
            moved = rounding(stores) if name == "cog" else 0.0
            if moved > LEAST_MOVED and not json:
                warn(f"Images were moved by up to {moved:.2f} pixels to one grid.")
            if json:
                json_line(event="exported", path=output, format=name, moved=moved)
            else:
                out.print(f"Exported: {output}", highlight=False, soft_wrap=True)
    finish(report, json=json)


def _stems(project: Project) -> dict[str, str]:
    """Return the stem of the file of each image: its own, with a number if taken."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for image in project.images:
        stem = name = PurePosixPath(image.name).stem
        number = 2
        while name.lower() in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name.lower())
        found[image.path] = name
    return found


@expand_options
def report(
    project: ProjectArgument,
    output: Annotated[Path, typer.Option(help="CSV file to write.")],
    choice: ImageChoice,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Write a CSV file with the state, the notes and the class shares of each image.

    Shares are estimates from the coarsest level of the labels, 0 to 1. An image whose
    labels cannot be read has empty shares and is reported.
    """
    from napari_uhrseg.io.export import atomic_target

    opened = OpenedProject.at(project, allow_outside=choice.allow_outside)
    current, images = opened.chosen(choice)
    done = Report("read")
    rows = {i.path: (i, dict[str, float]()) for i in images}
    with atomic_target(output.absolute(), overwrite=overwrite) as part:
        for image in images:
            with reported(image, done, json=json):
                rows[image.path] = image, _shares(opened, image)
        part.write_text(_csv(current, list(rows.values())), encoding="utf-8")
    if json:
        json_line(event="written", path=output)
    else:
        out.print(f"Report: {output}", highlight=False, soft_wrap=True)
    finish(done, json=json)


def _shares(opened: OpenedProject, image: ProjectImage) -> dict[str, float]:
    """Return the shares of the displayed classes by name; empty without labels."""
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.paths import exists

    labels = opened.labels(image)
    if not exists(labels):
        return {}
    with LabelStore.open(labels) as store:
        names = {c.id: c.name for c in store.legend}
        return {names[k]: v for k, v in store.area_shares().items()}


def _csv(project: Project, rows: list[tuple[ProjectImage, dict[str, float]]]) -> str:
    """Return a table with a column for each displayed class."""
    names = [c.name for c in project.legend if c.id not in project.aliases]
    names += sorted({n for _, shares in rows for n in shares} - set(names))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["image", "labels", "state", "notes", *names])
    for image, shares in rows:
        values = [f"{shares.get(n, 0.0):.6f}" if shares else "" for n in names]
        writer.writerow([image.path, image.labels, image.state, image.notes, *values])
    return text.getvalue()
