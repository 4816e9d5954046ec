"""Official checkpoints of ISDNet: files of mmcv, ``{"meta": ..., "state_dict": ...}``.

The authors' code registers the layers of the light branch twice, as ``features`` and as
``x2`` to ``x16``, so that each tensor has two names.
"""

import re
from pathlib import Path

import torch

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.importers.weights_file import (
    State,
    chosen_legend,
    count_classes,
    fill,
    listed,
    read_state,
    strip_prefix,
)
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, Legend

STDC = "refine_head.stdc_net."
HEAD = "refine_head.conv_seg."
FUSED = 128  # channels of the fused maps, as published


def import_isdnet(
    source: Path | str, legend: Legend | None = None
) -> tuple[Segmenter, Card]:
    """Return an ISDNet (ResNet-18) with the weights of an official file, and its card.

    The heads that only training needs are checked too, but left out of checkpoints.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is not of ISDNet (the message lists unknown and
        missing keys), or the legend has another number of classes.
    """
    source = Path(source)
    last = f"{HEAD}conv_out.weight"
    state = _without_aliases(strip_prefix(read_state(source), last))
    count = count_classes(state, last, "ISDNet")
    legend = chosen_legend(legend, count)
    arguments: dict[str, int] = {}
    narrow = state.get(f"{HEAD}conv_bn_relu.conv.weight")
    if narrow is not None and narrow.ndim == 4 and narrow.shape[1] != FUSED:
        arguments["width"] = narrow.shape[1]
    model = build("isdnet", arguments, legend)
    fill(model, state, "ISDNet")
    card = Card(
        model="isdnet",
        arguments=arguments,
        legend=legend,
        spec=model.spec,
        name=source.stem,
        source=f"{source.name}, a file of the authors' code "
        "(https://github.com/cedricgsh/ISDNet)",
        licence="code: Apache-2.0; weights: as their authors state",
        citation="S. Guo et al., ISDNet: Integrating Shallow and Deep Networks for "
        "Efficient Ultra-high Resolution Segmentation, CVPR 2022",
    )
    return model, card


def _without_aliases(state: State) -> State:
    """Return the state with each tensor of the light branch once, as ``features``."""
    found, aliases = {}, {}
    for key, value in state.items():
        match = re.fullmatch(re.escape(STDC) + r"x(?:2|4|8|16)\.0\.(.+)", key)
        if match:
            aliases[f"{STDC}features.{match[1]}"] = value
        else:
            found[key] = value
    differ = [
        k
        for k, v in aliases.items()
        if k in found and not (v.shape == found[k].shape and torch.equal(v, found[k]))
    ]
    if differ:
        raise CheckpointError(
            f"The file contradicts itself: {listed(differ)} are not the same as their "
            "second copies under x2 to x16.",
            "Get the file again from where it came from.",
        )
    return {**found, **aliases}
