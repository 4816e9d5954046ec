"""Names of labels layers: method, checkpoint and time of the run."""

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.models.registry import REGISTRY
from napari_uhrseg.ui.widgets.number_text import local_date, local_time

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.types import Run

TITLES = {"onnx": "ONNX"}  # of models that are not in the registry


def labels_name(store: "LabelStore", image: Image) -> str:
    """Return the name of labels by their last run, or by their image without a run.

    An example is "Labels: SCPSeg, Potsdam, 14:32".
    """
    runs = store.runs
    return f"Labels: {_describe(runs[-1]) if runs else image.name}"


def _describe(run: "Run") -> str:
    entry = REGISTRY.get(run.model)
    title = entry.title if entry else TITLES.get(run.model, run.model)
    parts = [title, run.checkpoint, _time(run.created)]
    return ", ".join(filter(None, parts))


def _time(created: str) -> str:
    """Return the local time of today, or the date and time of another day."""
    with suppress(ValueError):
        when = datetime.fromisoformat(created).astimezone()
        today = when.date() == datetime.now().astimezone().date()
        return local_time(when) if today else local_date(when)
    return ""
