"""Small ONNX networks, exported from torch."""

import json
import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

DEEPNESS = {
    "model_type": '"Segmentor"',
    "class_names": {0: "_background", 1: "field", 2: "water"},
    "resolution": 20.0,
    "tile_size": 64,
    "tiles_overlap": 25,
    "standardization_mean": [0.4, 0.5, 0.6],
    "standardization_std": [0.2, 0.25, 0.3],
}
"""Metadata as Deepness' documentation has them."""


def small_network(classes: int = 3, last: nn.Module | None = None) -> nn.Module:
    """Return two convolutions with fixed weights, and a last layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, classes, 1)]
    return nn.Sequential(*layers, *([last] if last else [])).eval()


def export(
    network: nn.Module,
    path: Path,
    metadata: dict[str, object] | None = None,
    *,
    window: int | None = None,
    count: int = 1,
) -> Path:
    """Write a network of three bands as ONNX, and return the path.

    Parameters
    ----------
    network
        The network.
    path
        The file.
    metadata
        Metadata, written as JSON unless they are texts.
    window
        Fixed side of the input; ``None``: any side and any number of images.
    count
        Fixed number of images.
    """
    free = {0: "n", 2: "h", 3: "w"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the new exporter takes seconds
        torch.onnx.export(
            network,
            (torch.zeros(count, 3, window or 64, window or 64),),
            path,
            dynamo=False,
            input_names=["image"],
            output_names=["labels"],
            dynamic_axes=None if window else {"image": free, "labels": free},
        )
    if metadata:
        model = onnx.load(path)
        for key, value in metadata.items():
            entry = model.metadata_props.add()
            entry.key = key
            entry.value = value if isinstance(value, str) else json.dumps(value)
        onnx.save(model, path)
    return path
