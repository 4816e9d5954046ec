"""Weights that an encoder starts from: shipped with the package, or from a file."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.importers.weights_file import listed, read_state
from napari_uhrseg.types import InputSpec

WEIGHTS = Path(__file__).parent / "weights" / "tf_efficientnet_lite0.safetensors"
SHIPPED_NAMES = frozenset(
    f"{library}tf_efficientnet_lite0{tag}"
    for library in ("", "tu-", "timm-")
    for tag in ("", ".in1k")
)
STEM, STEM_NORM = "conv_stem.weight", "bn1.running_mean"  # of the shipped encoder
COUNTER = "num_batches_tracked"  # not read, and missing in older files
RGB = 3

State = dict[str, Tensor]


def is_shipped(encoder: object) -> bool:
    """Return whether the weights of an encoder, by its name, are in the package."""
    return encoder in SHIPPED_NAMES


@cache
def _shipped() -> tuple[State, float, float]:
    """Return the shipped weights in float32, and the mean and deviation of pixels."""
    state = {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
    with safe_open(WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
    return state, float(metadata["mean"]), float(metadata["std"])


def load_shipped(model: Segmenter) -> None:
    """Load the shipped ImageNet weights into every encoder of a network.

    Raises
    ------
    CheckpointError
        If an encoder is another one.
    """
    state, mean, std = _shipped()
    for name in model.pretrained_modules:
        encoder = _bare(model.get_submodule(name))
        own = adapt_stem(state, model.spec, mean, std)
        _load(encoder, own, f"the shipped {WEIGHTS.stem}")


def adapt_stem(
    state: Mapping[str, Tensor], spec: InputSpec, mean: float, std: float
) -> State:
    """Return weights for the bands and the normalisation of another network.

    The output of the first convolution and its batch norm does not change, except at
    the image border, where the padded zeros stand for another colour.

    Parameters
    ----------
    state
        Weights of the shipped encoder by name, for three bands.
    spec
        Input of the network: bands, and their mean and deviation.
    mean, std
        Mean and deviation of the pixels (0 to 1) that the weights were trained with.
    """
    weight = adapt_input_conv(spec.channels, state[STEM])
    scale = torch.tensor(spec.std) / std
    shift = (torch.tensor(spec.mean) - mean) / std
    moved = (weight.sum((2, 3)) * shift).sum(1)
    norm = state[STEM_NORM] - moved
    return {**state, STEM: weight * scale[:, None, None], STEM_NORM: norm}


def load_encoder_file(model: Segmenter, path: Path | str) -> tuple[str, ...]:
    """Load weights of a file into every encoder that they fit.

    The keys may have a common prefix, such as ``encoder.`` or ``backbone.``. Other
    weights in the file, such as those of a classifier, are not used. Kernels of the
    first convolution are adapted to the number of bands as in timm.

    Parameters
    ----------
    model
        The network; its encoders are changed.
    path
        safetensors file, or a torch file of a state_dict. It is read without running
        code.

    Returns
    -------
    tuple of str
        Names of the encoders that have the weights now.

    Raises
    ------
    CheckpointError
        If the file cannot be read, has values that are not finite, or fits no encoder.
        The message names the missing keys and the wrong shapes.
    """
    path = Path(path)
    state = _read(path)
    problems, loaded = [], []
    for name in (*model.pretrained_modules, *model.light_encoders):
        encoder = _bare(model.get_submodule(name))
        try:
            _load(encoder, _fitting(encoder, state), path.name)
        except CheckpointError as error:
            problems.append(f"{name}: {error.message}")
        else:
            loaded.append(name)
    if not loaded:
        raise CheckpointError(
            f"{path.name} fits no encoder of the network. {' '.join(problems)}",
            "Choose a file of this encoder's weights, or another encoder.",
        )
    return tuple(loaded)


def _read(path: Path) -> State:
    if path.suffix != ".safetensors":
        state = read_state(path)
    else:
        try:
            state = load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path.name} cannot be read: {error}.", "Check the path and the file."
            ) from error
    bad = [k for k, v in state.items() if not bool(torch.isfinite(v).all())]
    if bad:
        raise CheckpointError(
            f"{path.name} has weights that are not finite: {listed(bad)}.",
            "Get the file again from where it came from.",
        )
    return state


def _bare(encoder: nn.Module) -> nn.Module:
    """Return the network of timm inside an encoder of the segmentation library."""
    inner = getattr(encoder, "model", None)
    return inner if isinstance(inner, nn.Module) else encoder


def _fitting(encoder: nn.Module, state: State) -> State:
    """Return weights without a prefix, for the encoder's number of bands."""
    own = encoder.state_dict()
    first = next(iter(own))
    ends = [name for name in state if name == first or name.endswith(f".{first}")]
    if len(ends) != 1:
        return state
    prefix = ends[0].removesuffix(first)
    found = {
        name.removeprefix(prefix): tensor.float()
        if tensor.is_floating_point()
        else tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
    kernel, wanted = found[first], own[first]
    if kernel.ndim == 4 and kernel.shape[1] == RGB and wanted.ndim == 4:
        found[first] = adapt_input_conv(wanted.shape[1], kernel)
    return found


def _load(encoder: nn.Module, state: State, title: str) -> None:
    """Load weights after checking every key and shape; further keys are not used."""
    own = encoder.state_dict()
    needed = [name for name in own if not name.endswith(COUNTER)]
    missing = [name for name in needed if name not in state]
    wrong = [
        f"{n} is {tuple(state[n].shape)}, not {tuple(own[n].shape)}"
        for n in needed
        if n in state and state[n].shape != own[n].shape
    ]
    if missing or wrong:
        parts = []
        if missing:
            parts.append(
                f"{len(missing)} of {len(needed)} are missing: {listed(missing)}"
            )
        if wrong:
            parts.append(f"{len(wrong)} have another shape: {listed(wrong)}")
        raise CheckpointError(
            f"The weights in {title} are of another encoder. {'; '.join(parts)}.",
            "Choose a file of this encoder's weights.",
        )
    encoder.load_state_dict({**own, **{n: state[n] for n in needed}})
