"""Official checkpoints of GLNet: bare state_dicts, saved through DataParallel.

The authors train in three steps and save a file after each; all three hold every key.
The first (``global``) has trained the overview's branch, the second
(``global2local``) the windows' branch, the third (``local2global``) the overview's
again, now with what the windows saw. The method as published needs the third, and of
the first the overview's branch as it was before: that goes into our checkpoint as
``fixed``, so that one file is enough.
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
)
from napari_uhrseg.models.registry import build
from napari_uhrseg.types import Card, Legend

TITLE = "GLNet"
FIXED = "fixed."


def import_glnet(
    source: Path | str,
    second: Path | str | None = None,
    legend: Legend | None = None,
    mode: int | None = None,
) -> tuple[Segmenter, Card]:
    """GLNet with the weights of one or two official files.

    Parameters
    ----------
    source
        The file of the last step that was trained: ``global`` for mode 1,
        ``global2local`` for mode 2, ``local2global`` for mode 3.
    second
        The file of the first step, ``global``; only for mode 3.
    mode
        1: only the overview; 2: overview to windows; 3: both ways. ``None``: 3 with
        two files; with one, 1 where it has not learned windows yet, else 2.

    Raises
    ------
    CheckpointError
        A file cannot be read or is not GLNet's: unknown and missing keys are listed;
        mode and files do not go together; or the legend has another number of classes.
    """
    source = Path(source)
    state = read_state(source)
    count = count_classes(state, "ensemble_conv.weight", TITLE)
    mode = _mode(state, source, second, mode)
    legend = chosen_legend(legend, count)
    arguments = {"mode": mode}
    model = build("glnet", arguments, legend)
    own = model.state_dict()
    files = source.name
    if second is not None:
        second = Path(second)
        other = read_state(second)
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
    """Whether the windows' branch was trained: its biases start at zero."""
    biases = [
        v for k, v in state.items() if k.startswith("fpn_local.") and k.endswith("bias")
    ]
    return any(bool(v.any()) for v in biases)
