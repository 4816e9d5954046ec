"""Command line ``napari-uhrseg``: the functions of the window without a window.

Contains one module for each command. Commands import torch and the readers when they
run, so that ``--help`` and ``info`` start quickly. Other packages use only ``app``.
"""

import typer

from napari_uhrseg.cli.checkpoints.card import card
from napari_uhrseg.cli.checkpoints.import_ import import_
from napari_uhrseg.cli.classes import classes
from napari_uhrseg.cli.console import common, report_errors
from napari_uhrseg.cli.correct import correct
from napari_uhrseg.cli.demo import demo
from napari_uhrseg.cli.evaluate import evaluate
from napari_uhrseg.cli.export import export
from napari_uhrseg.cli.finetune import finetune
from napari_uhrseg.cli.info import info
from napari_uhrseg.cli.measure.areas import areas
from napari_uhrseg.cli.measure.compare import compare
from napari_uhrseg.cli.measure.objects import objects
from napari_uhrseg.cli.project import project_app
from napari_uhrseg.cli.runs.tissue import tissue
from napari_uhrseg.cli.segment import segment
from napari_uhrseg.cli.train import train

__all__ = ["app"]

app = typer.Typer(
    callback=common,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
for command in (info, card, tissue, train, segment, classes, correct, finetune, export,
                areas, objects, compare, evaluate, demo):  # fmt: skip
    app.command()(report_errors(command))
app.command("import")(report_errors(import_))
app.add_typer(project_app, name="project")
