"""Official checkpoints of GLNet: bare state_dicts, saved through DataParallel.

The authors train in three steps and save a file after each; all three contain every
key. The first step (``global``) trains the global branch, the second (``global2local``)
the local branch, and the third (``local2global``) the global branch again with the maps
of the local branch. The published method needs the third file, and the global branch of
the first file. The imported checkpoint contains the latter as ``fixed``.
"""

from pathlib import Path

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.importers.weights_file import (
    State,
    chosen_legend,
    complete,
    count_classes,
    fill,
    read_state,
    strip_prefix,
)
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, Legend

TITLE = "GLNet"
LAST = "ensemble_conv.weight"  # key of the last convolution
FIXED = "fixed."
PATCHES_PER_STEP = 2  # for fine-tuning; the authors' steps take all patches of a frame


def import_glnet(
    source: Path | str,
    second: Path | str | None = None,
    legend: Legend | None = None,
    mode: int | None = None,
) -> tuple[Segmenter, Card]:
    """Return a GLNet with the weights of one or two official files, and its card.

    Parameters
    ----------
    source
        File of the last training step: ``global`` for mode 1, ``global2local`` for
        mode 2, ``local2global`` for mode 3.
    second
        File of the first step, ``global``; only for mode 3.
    legend
        Classes in the order of the network's outputs; ``None``: those of DeepGlobe for
        seven classes, otherwise numbered classes.
    mode
        1: only the overview; 2: the overview's maps are shared with the patches; 3:
        maps are shared in both directions. ``None``: 3 for two files; for one file 1 if
        its local branch is untrained, otherwise 2.

    Raises
    ------
    CheckpointError
        If a file cannot be read or is not of GLNet (the message lists unknown and
        missing keys), the mode does not fit the files, or the legend has another number
        of classes.
    """
    source = Path(source)
    state = strip_prefix(read_state(source), LAST)
    count = count_classes(state, LAST, TITLE)
    mode = _mode(state, source, second, mode)
    legend = chosen_legend(legend, count)
    arguments = {"mode": mode, "patches_per_step": PATCHES_PER_STEP}
    model = build("glnet", arguments, legend)
    own = model.state_dict()
    files = source.name
    if second is not None:
        second = Path(second)
        other = strip_prefix(read_state(second), LAST)
        official = {k: v for k, v in own.items() if not k.startswith(FIXED)}
        other = complete(other, official, f"the second file of {TITLE}")
        state |= {FIXED + k: v for k, v in other.items() if FIXED + k in own}
        files += f" and {second.name}"
    fill(model, state, TITLE)
    card = Card(
        model="glnet",
        arguments=arguments,
        legend=legend,
        spec=model.spec,
        name=source.stem,
        source=f"{files} of the authors' code (https://github.com/VITA-Group/GLNet)",
        licence="code: MIT; weights: as their authors state",
        citation="W. Chen et al., Collaborative Global-Local Networks for "
        "Memory-Efficient Segmentation of Ultra-High Resolution Images, CVPR 2019",
    )
    return model, card


def _mode(
    state: State, source: Path, second: Path | str | None, mode: int | None
) -> int:
    if mode not in (None, 1, 2, 3):
        raise CheckpointError(f"There is no mode {mode} of GLNet.", "Take 1, 2 or 3.")
    if mode is None:
        mode = 3 if second is not None else 2 if _knows_windows(state) else 1
    if (mode == 3) != (second is not None):
        raise CheckpointError(
            f"Mode {mode} of GLNet is made from "
            f"{'two files' if mode == 3 else 'one file'}.",
            "Mode 3 takes local2global as the file and global as the second; modes 1 "
            "and 2 take one file.",
        )
    if mode > 1 and not _knows_windows(state):
        raise CheckpointError(
            f"{source.name} has not learned to label windows: it is of GLNet's first "
            "step.",
            "For mode 3 give it as the second file and local2global as the first; "
            "alone it makes mode 1.",
        )
    return mode


def _knows_windows(state: State) -> bool:
    """Return whether the local branch was trained: its biases start at zero."""
    biases = [
        v for k, v in state.items() if k.startswith("fpn_local.") and k.endswith("bias")
    ]
    return any(bool(v.any()) for v in biases)
