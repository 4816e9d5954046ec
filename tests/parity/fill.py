"""Weights by rule, so that a network can be compared without keeping its file."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

HERE = Path(__file__).parent


def keys(folder: str) -> dict[str, tuple[int, ...]]:
    """Every key of the original state_dict with its shape."""
    found: Mapping[str, Any] = json.loads((HERE / folder / "keys.json").read_text())
    return {
        k: tuple(v["shape"] if isinstance(v, Mapping) else v) for k, v in found.items()
    }


def arrays(folder: str, name: str) -> dict[str, npt.NDArray]:
    """``input`` or ``output`` of a folder."""
    with np.load(HERE / folder / f"{name}.npz") as file:
        return dict(file)


def filled(shapes: Mapping[str, tuple[int, ...]], seed: str = "") -> dict[str, Tensor]:
    """A state_dict by the rule; the seed of a key is ``seed + key``."""
    norms = {
        k.removesuffix(".running_mean") for k in shapes if k.endswith(".running_mean")
    }
    return {k: _value(k, shape, norms, seed + k) for k, shape in shapes.items()}


def _value(key: str, shape: tuple[int, ...], norms: set[str], seed: str) -> Tensor:
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    module, _, kind = key.rpartition(".")
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if kind == "running_var" or (module in norms and kind == "weight"):
        value = rng.uniform(0.5, 1.5, shape)
    elif kind in ("bias", "running_mean"):
        value = rng.standard_normal(shape) * 0.1
    elif kind == "weight" and len(shape) >= 2:
        value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    else:
        value = rng.standard_normal(shape) * 0.02
    return torch.from_numpy(np.asarray(value, np.float32))


def difference(ours: Tensor, theirs: npt.NDArray) -> float:
    """Largest difference, in standard deviations of theirs."""
    found = ours.detach().numpy()
    assert found.shape == theirs.shape
    return float(np.abs(found - theirs).max() / theirs.std())
