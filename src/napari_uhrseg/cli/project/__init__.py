"""``napari-uhrseg project``: commands for many images with one set of classes.

Contains the commands, which use the functions of the commands for single images. Other
packages use only ``project_app``.

Must not import ``ui``.
"""

import typer

from napari_uhrseg.cli.console import report_errors
from napari_uhrseg.cli.project.classes import classes
from napari_uhrseg.cli.project.evaluate import evaluate
from napari_uhrseg.cli.project.export import export, report
from napari_uhrseg.cli.project.files import add, list_, mark, new
from napari_uhrseg.cli.project.finetune import finetune
from napari_uhrseg.cli.project.segment import segment
from napari_uhrseg.cli.project.uncertain import uncertain

__all__ = ["project_app"]

project_app = typer.Typer(
    help="Create a project of many images; segment, train, export and report them.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
for command in (
    new,
    add,
    mark,
    classes,
    segment,
    finetune,
    evaluate,
    export,
    report,
    uncertain,
):
    project_app.command()(report_errors(command))
project_app.command("list")(report_errors(list_))
