"""``napari-uhrseg demo``: the sample scene in a window, ready to be segmented."""

from pathlib import Path
from typing import Annotated

import typer

from napari_uhrseg.cli.console import err, out


def demo(
    screenshot: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Segment the scene, and a part of it with every other method; save "
            "screenshots and label stores in this folder, and close the window.",
        ),
    ] = None,
) -> None:
    """Open napari with the sample scene and the panel."""
    with err.status("Starting napari"):
        from napari_uhrseg.ui.demo import run_alone, show
    if screenshot is None:
        show()
        return
    with err.status("Segmenting the sample scene in a hidden window"):
        made = run_alone(screenshot)
    for path in made:
        what = "Screenshot:" if path.suffix == ".png" else "Labels:    "
        out.print(what, path, highlight=False, soft_wrap=True)
