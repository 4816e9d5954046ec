"""Card of an ONNX network: from its metadata, or from a file beside it.

Deepness, a plugin of QGIS, defined the metadata: ``class_names``, ``resolution`` in
centimetres, ``tile_size``, ``tiles_overlap`` in per cent, ``seg_thresh``,
``standardization_mean`` and ``standardization_std``. A network without them is
described once by the user. The description is stored beside the network, as
``<name>.card.json``, and replaces the metadata.
"""

import ast
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_uhrseg.atomic import replacing
from napari_uhrseg.errors import CheckpointError, UndescribedError
from napari_uhrseg.models.dataset_legends import distinct_color, numbered_legend
from napari_uhrseg.models.onnx.graph import OnnxGraph, Value, read_graph
from napari_uhrseg.types import Card, InputSpec, LabelClass, Legend, View

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


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDescription:
    """Description of an ONNX network; None: unknown, or the default.

    Attributes
    ----------
    legend
        Classes in the order of the outputs. A network with one output has two
        classes: the first one below the threshold, the second one above it.
    window
        Side of the input in pixels.
    overlap
        Overlap of neighbouring windows in pixels.
    pixel_size
        Size of a pixel of the training images in metres.
    value_range
        Image values that become 0 and 1.
    mean, std
        Mean and standard deviation of each channel, after ``value_range``.
    threshold
        Values below it do not count.
    """

    legend: Legend | None = None
    window: int | None = None
    overlap: int | None = None
    pixel_size: float | None = None
    value_range: tuple[float, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    threshold: float | None = None


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
        return make_card(path, graph, stated(path, graph))
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


def stated(path: Path, graph: OnnxGraph) -> NetworkDescription:
    """Return the description that the metadata of a network contains.

    Raises
    ------
    CheckpointError
        If the network is not for segmentation, or its metadata are damaged.
    """
    texts = graph.metadata
    kind = str(_literal(texts.get("model_type", '"Segmentor"'))).capitalize()
    if kind != "Segmentor":
        raise CheckpointError(
            f"{path.name} is a {kind.lower()}, and no network for segmentation.",
            "Choose a network that labels pixels.",
        )
    window = _number(path, texts, "tile_size") or _number(path, texts, "tiles_size")
    window = window or _sides(graph.inputs[:1])
    share = _number(path, texts, "tiles_overlap")
    size = _number(path, texts, "resolution")
    return NetworkDescription(
        legend=_stated_classes(path, texts),
        window=None if window is None else int(window),
        overlap=round(window * share / 100) if window and share is not None else None,
        pixel_size=None if size is None else size / 100,
        mean=_numbers(path, texts, "standardization_mean"),
        std=_numbers(path, texts, "standardization_std"),
        threshold=_number(path, texts, "seg_thresh"),
    )


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
    window = description.window or _sides(graph.inputs)
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
        raise _unusable(path, str(error)) from error
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


def named_legend(names: tuple[str, ...]) -> Legend:
    """Return classes with these names, in the order of the outputs.

    The value of a class in masks is the number of its output, from 0.

    Raises
    ------
    ValueError
        If a name occurs twice, or there are more than 255.
    """
    return Legend(
        tuple(LabelClass(k + 1, n, distinct_color(k), k) for k, n in enumerate(names))
    )


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
        raise _unusable(path, f"it has {len(graph.inputs)} inputs, not one")
    (value,) = graph.inputs
    if len(value.sizes) != 4 or value.dtype not in FLOATS:
        shown = " x ".join("?" if s is None else str(s) for s in value.sizes)
        raise _unusable(
            path,
            f"its input is {shown or 'of unknown size'} {value.dtype}, not images x "
            "bands x rows x columns of floating-point numbers",
        )
    known = description.mean or description.std
    channels = value.sizes[1] or (len(known) if known else None)
    if channels is None:
        raise _undescribed(path, "the number of its bands (mean)")
    if channels > MOST_CHANNELS:
        raise _unusable(
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
            raise _unusable(
                path, f"its input has {shown} pixels, not windows of {spec.window}"
            )
    if spec.window > MOST_WINDOW:
        raise _unusable(path, f"windows of {spec.window} pixels are too large")
    if graph.inputs[0].sizes[1] not in (None, spec.channels):
        raise _unusable(path, f"its input has no {spec.channels} bands")
    whole = {"local": View(spec.window, spec.window)}
    if spec.frame is not None or dict(spec.views) != whole:
        raise _unusable(path, "its card has other views than one window")


def _sides(values: tuple[Value, ...]) -> int | None:
    """Return the side of square inputs; None if it is not fixed."""
    sizes = values[0].sizes[2:] if values else ()
    return sizes[0] if len(sizes) == 2 and sizes[0] == sizes[1] else None


def _stated_classes(path: Path, texts: dict[str, str]) -> Legend | None:
    """Return the classes of the metadata ``class_names`` or ``names``."""
    text = texts.get("class_names") or texts.get("names")
    if not text:
        return None
    found = _literal(text)
    try:
        if isinstance(found, dict):
            pairs = sorted((int(k), str(v)) for k, v in found.items())
            if [k for k, _ in pairs] != list(range(len(pairs))):
                raise ValueError("the numbers of the classes have gaps")
            names = [name for _, name in pairs]
        elif isinstance(found, list | tuple):
            names = [str(name) for name in found]
        else:
            raise ValueError("they are no table and no list")
        return named_legend(tuple(n.strip(" _") or n for n in names))
    except (ValueError, TypeError) as error:
        raise _unusable(path, f"its metadata class_names are wrong: {error}") from error


def _literal(text: str) -> Any:
    """Return the value of a text: JSON, or a literal of Python, or the text itself."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def _number(path: Path, texts: dict[str, str], name: str) -> float | None:
    """Return a number of the metadata; None without one."""
    if name not in texts:
        return None
    try:
        value = float(_literal(texts[name]))
        if not 0 <= value < 1e9:
            raise ValueError("it is out of range")
    except (ValueError, TypeError) as error:
        raise _unusable(
            path, f"its metadata {name} is {texts[name][:40]!r}, not a number"
        ) from error
    return value


def _numbers(path: Path, texts: dict[str, str], name: str) -> tuple[float, ...] | None:
    """Return a list of numbers of the metadata; None without one."""
    if name not in texts:
        return None
    try:
        return tuple(float(value) for value in _literal(texts[name]))
    except (ValueError, TypeError) as error:
        raise _unusable(
            path, f"its metadata {name} is {texts[name][:40]!r}, not a list"
        ) from error


def _undescribed(path: Path, what: str) -> UndescribedError:
    return UndescribedError(
        f"{path.name} does not state {what}.",
        f"Describe the network once: napari-uhrseg card {path.name} --names …, or "
        "choose it in the window.",
    )


def _unusable(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} cannot be run: {why}.",
        "Export the network with one input, images x bands x rows x columns, or "
        "correct its description.",
    )
