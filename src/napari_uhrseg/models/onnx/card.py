"""Card of an ONNX network: from its metadata, or from a file beside it.

A network without metadata is described once by the user. The description is stored
beside the network, as ``<name>.card.json``, and replaces the metadata.
"""

import json
from dataclasses import replace
from pathlib import Path

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import CheckpointError, UndescribedError
from napari_uhrseg.models.dataset_legends import numbered_legend
from napari_uhrseg.models.onnx.description import (
    NetworkDescription,
    deepness_description,
    input_side,
    named_legend,
    unusable,
)
from napari_uhrseg.models.onnx.graph import OnnxGraph, read_graph
from napari_uhrseg.types import Card, InputSpec, Legend, View

ONNX = "onnx"
"""Name of the model in cards."""
SUFFIX = ".onnx"
CARD_SUFFIX = ".card.json"
MOST_CARD = 1 << 20  # bytes of a stored card
MOST_WINDOW = 8192  # pixels
MOST_CHANNELS = 256
FLOATS = ("float32", "float16", "float64")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
BACKGROUND = "background"


def is_onnx(path: Path) -> bool:
    """Return whether a file is an ONNX network, by its name."""
    return path.suffix.lower() == SUFFIX


def card_path(path: Path) -> Path:
    """Return the path of the card beside an ONNX network."""
    return path.with_suffix(CARD_SUFFIX)


def read_onnx_card(path: Path) -> Card:
    """Return the card of an ONNX network, without running it.

    Raises
    ------
    CheckpointError
        If the file cannot be run.
    UndescribedError
        If neither its metadata nor a card beside it describe it.
    """
    graph = read_graph(path)
    stored = card_path(path)
    if not stored.is_file():
        return make_card(path, graph, deepness_description(path, graph))
    card = _read_stored(stored)
    legend = check_classes(path, graph, card.legend)
    _check_input(path, graph, card.spec)
    return replace(card, legend=legend)


def write_card(path: Path, description: NetworkDescription) -> Card:
    """Write the card of an ONNX network beside it, and return it.

    Raises
    ------
    CheckpointError
        If the description does not fit the network, or the file cannot be written.
    """
    card = make_card(path, read_graph(path), description)
    target = card_path(path)
    try:
        with replacing(target) as part:
            part.write_text(json.dumps(card.to_dict(), indent=1), "utf-8")
    except OSError as error:
        raise CheckpointError(
            f"The card {target} cannot be written: {error.strerror or error}.",
            "Copy the network into a folder that you may write to.",
        ) from error
    return card


def make_card(path: Path, graph: OnnxGraph, description: NetworkDescription) -> Card:
    """Return the card of a network with this description.

    Parameters
    ----------
    path
        File of the network.
    graph
        Its structure.
    description
        Classes, and input.

    Raises
    ------
    CheckpointError
        If something is missing, or does not fit the network.
    """
    channels = _channels(path, graph, description)
    window = description.window or input_side(graph.inputs)
    if description.legend is None:
        raise _undescribed(path, "the names of its classes")
    if window is None:
        raise _undescribed(path, "the side of its input in pixels (tile_size)")
    try:
        spec = InputSpec(
            views={"local": View(window, window)},
            window=window,
            channels=channels,
            value_range=description.value_range,
            mean=description.mean or (0.0,) * channels,
            std=description.std or (1.0,) * channels,
            pixel_size=description.pixel_size,
            window_overlap=window // 8
            if description.overlap is None
            else description.overlap,
            merge="taper",
        )
    except ValueError as error:
        raise unusable(path, str(error)) from error
    _check_input(path, graph, spec)
    threshold = description.threshold
    return Card(
        model=ONNX,
        arguments={} if threshold is None else {"threshold": threshold},
        legend=check_classes(path, graph, description.legend),
        spec=spec,
        name=path.stem,
        source=path.name,
        limitations="An ONNX network cannot be trained further.",
    )


def check_classes(path: Path, graph: OnnxGraph, legend: Legend) -> Legend:
    """Return the classes of the outputs of a network.

    A network with one output for one class has a background class too.

    Parameters
    ----------
    path
        File of the network.
    graph
        Its structure.
    legend
        The classes.

    Raises
    ------
    CheckpointError
        If the network has another number of outputs.
    """
    count = class_count(graph)
    if count == 2 and len(legend) == 1:
        names = (BACKGROUND, legend.classes[0].name)
        return named_legend(names)
    if not legend.classes or (count is not None and count != len(legend)):
        shown = "an unknown number of" if count is None else count
        raise CheckpointError(
            f"{path.name} has {shown} classes, and its description has {len(legend)}.",
            "Give one name for each class, in the order of the outputs.",
        )
    return legend


def class_count(graph: OnnxGraph) -> int | None:
    """Return the number of classes of a network; None if its file does not state it."""
    output = graph.outputs[0]
    if output.dtype in INTEGERS or not output.sizes:
        return None
    channels = 1 if len(output.sizes) == 3 else output.sizes[1]
    return 2 if channels == 1 else channels


def default_legend(graph: OnnxGraph) -> Legend | None:
    """Return numbered classes; None if the number of classes is unknown."""
    count = class_count(graph)
    return None if count is None or count > 255 else numbered_legend(count)


def threshold_of(card: Card) -> float | None:
    """Return the threshold of a card; None if it has none."""
    found = card.arguments.get("threshold")
    return None if found is None else float(found)


def _read_stored(path: Path) -> Card:
    try:
        if path.stat().st_size > MOST_CARD:
            raise ValueError("it is larger than 1 MB")
        data = json.loads(path.read_text("utf-8"))
        if not isinstance(data, dict) or data.get("model") != ONNX:
            raise ValueError("it is no card of an ONNX network")
        card = Card.from_dict(data)
        threshold = threshold_of(card)
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"The card {path.name} cannot be read: {error}.",
            "Delete it, and describe the network again.",
        ) from error
    unknown = set(card.arguments) - {"threshold"}
    if unknown or (threshold is not None and not -1e9 < threshold < 1e9):
        raise CheckpointError(
            f"The card {path.name} has wrong arguments: {dict(card.arguments)}.",
            "Delete it, and describe the network again.",
        )
    return card


def _channels(path: Path, graph: OnnxGraph, description: NetworkDescription) -> int:
    """Return the number of bands of the input."""
    if len(graph.inputs) != 1:
        raise unusable(path, f"it has {len(graph.inputs)} inputs, not one")
    (value,) = graph.inputs
    if len(value.sizes) != 4 or value.dtype not in FLOATS:
        shown = " x ".join("?" if s is None else str(s) for s in value.sizes)
        raise unusable(
            path,
            f"its input is {shown or 'of unknown size'} {value.dtype}, not images x "
            "bands x rows x columns of floating-point numbers",
        )
    known = description.mean or description.std
    channels = value.sizes[1] or (len(known) if known else None)
    if channels is None:
        raise _undescribed(path, "the number of its bands (mean)")
    if channels > MOST_CHANNELS:
        raise unusable(
            path,
            f"its input has {channels} bands. The bands are the second of the four "
            "axes",
        )
    return channels


def _check_input(path: Path, graph: OnnxGraph, spec: InputSpec) -> None:
    """Raise CheckpointError if the input of a card is not that of the network."""
    rows, columns = graph.inputs[0].sizes[2:] if graph.inputs else (None, None)
    for side in (rows, columns):
        if side is not None and side != spec.window:
            shown = "x".join("?" if s is None else str(s) for s in (rows, columns))
            raise unusable(
                path, f"its input has {shown} pixels, not windows of {spec.window}"
            )
    if spec.window > MOST_WINDOW:
        raise unusable(path, f"windows of {spec.window} pixels are too large")
    if graph.inputs[0].sizes[1] not in (None, spec.channels):
        raise unusable(path, f"its input has no {spec.channels} bands")
    whole = {"local": View(spec.window, spec.window)}
    if spec.frame is not None or dict(spec.views) != whole:
        raise unusable(path, "its card has other views than one window")


def _undescribed(path: Path, what: str) -> UndescribedError:
    return UndescribedError(
        f"{path.name} does not state {what}.",
        f"Describe the network once: napari-uhrseg card {path.name} --names …, or "
        "choose it in the window.",
    )
