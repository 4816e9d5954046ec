"""Description of an ONNX network: of its metadata, or of the user.

Deepness, a plugin of QGIS, defined the metadata: ``class_names``, ``resolution`` in
centimetres, ``tile_size``, ``tiles_overlap`` in per cent, ``seg_thresh``,
``standardization_mean`` and ``standardization_std``.
"""

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.dataset_legends import distinct_color
from napari_uhrseg.models.onnx.graph import OnnxGraph, Value
from napari_uhrseg.types import LabelClass, Legend


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


def deepness_description(path: Path, graph: OnnxGraph) -> NetworkDescription:
    """Return the description in the metadata that Deepness has defined.

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
    window = window or input_side(graph.inputs[:1])
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


def input_side(values: tuple[Value, ...]) -> int | None:
    """Return the side of square inputs; None if it is not fixed."""
    sizes = values[0].sizes[2:] if values else ()
    return sizes[0] if len(sizes) == 2 and sizes[0] == sizes[1] else None


def unusable(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.name} cannot be run: {why}.",
        "Export the network with one input, images x bands x rows x columns, or "
        "correct its description.",
    )


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
        raise unusable(path, f"its metadata class_names are wrong: {error}") from error


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
        raise unusable(
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
        raise unusable(
            path, f"its metadata {name} is {texts[name][:40]!r}, not a list"
        ) from error
