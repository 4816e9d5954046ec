"""``project uncertain``: the most uncertain regions of all images."""

from functools import partial
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from napari_uhrseg.cli.console import json_line, out
from napari_uhrseg.cli.project.opened import (
    ImageChoice,
    OpenedProject,
    ProjectArgument,
    finish,
    reported,
)
from napari_uhrseg.cli.runs.batch import Report
from napari_uhrseg.cli.shared_options import (
    RECTANGLE,
    JsonOption,
    expand_options,
    format_rectangle,
)


@expand_options
def uncertain(
    project: ProjectArgument,
    choice: ImageChoice,
    count: Annotated[int, typer.Option(min=1, help="Number of regions.")] = 20,
    json: JsonOption = False,
) -> None:
    """List the most uncertain regions of all images, without corrected regions.

    The regions of an image are those of Next uncertain region in the window. The least
    certain ones of all images come first. Images without labels are left out.
    """
    from napari_uhrseg.io.project.region_ranking import rank_uncertain_regions

    opened = OpenedProject.at(project, allow_outside=choice.allow_outside)
    _, images = opened.chosen(choice)
    report = Report("searched")
    found, failed = rank_uncertain_regions(
        {image.path: partial(opened.labels, image) for image in images}
    )
    for image in images:
        with reported(image, report, json=json):
            if image.path in failed:
                raise failed[image.path]
    if json:
        for each in found[:count]:
            roi, score = each.region.roi, each.region.score
            json_line(event="region", image=each.image, roi=roi, score=score)
    else:
        table = Table()
        for name in ("Image", f"Region ({RECTANGLE})", "Uncertainty"):
            table.add_column(name)
        for each in found[:count]:
            where = format_rectangle(each.region.roi)
            table.add_row(Text(each.image), where, f"{each.region.score:.0%}")
        out.print(table)
    if report.failed:
        finish(report, json=json)
