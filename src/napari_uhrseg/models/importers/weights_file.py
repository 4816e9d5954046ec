"""Reading of other programs' weights without running their code, and their classes.

torch's files are pickles, which may call any function when they are opened. They are
read with ``weights_only``, which accepts only tensors and plain containers.
"""

import pickle
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from napari_uhrseg.errors import CheckpointError
from napari_uhrseg.models.base import Segmenter
from napari_uhrseg.models.checkpoint import state_mismatches
from napari_uhrseg.models.dataset_legends import LEGENDS, numbered_legend
from napari_uhrseg.models.importers.weights_kind import Kind, kind_of
from napari_uhrseg.types import Legend
from napari_uhrseg.units import quoted

State = dict[str, Tensor]
# of DataParallel and torch.compile
PREFIXES = ("module.", "_orig_mod.")


def read_state(path: Path | str) -> State:
    """Read the state_dict of a torch file: bare, or as ``state_dict`` in a dictionary.

    The prefixes of DataParallel and torch.compile are removed.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, would run code, or contains no state_dict.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.", "Check the path.")
    kind = kind_of(path)
    if kind.is_other:
        raise CheckpointError(
            f"{path.name} is {kind.title}, which cannot be imported.", kind.advice
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, kind, error) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError,
            TypeError, AttributeError, AssertionError, struct.error, OverflowError,
            MemoryError) as error:  # fmt: skip
        raise _damaged(path, error) from error
    state = found.get("state_dict", found) if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(
            f"{path.name} holds no state_dict.", "Choose a file of a network's weights."
        )
    odd = [str(k) for k, v in state.items() if not isinstance(v, Tensor)]
    if odd:
        raise CheckpointError(
            f"{path.name} holds no state_dict: not tensors are {listed(odd)}.",
            "Choose a file of a network's weights.",
        )
    return _without_wrappers({str(k): v for k, v in state.items()})


def _without_wrappers(state: State) -> State:
    """Remove prefixes that all keys have."""
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            shorter = {key.removeprefix(prefix): v for key, v in state.items()}
            return _without_wrappers(shorter)
    return state


def _refused(path: Path, kind: Kind, error: Exception) -> CheckpointError:
    """Return the error of a pickle that asks for more than weights."""
    asked_for = re.search(r"GLOBAL ([\w.]*\w)", str(error))
    if asked_for is None:
        return _damaged(path)
    weights = ".state_dict()" if kind.is_whole_network else "['state_dict']"
    what = "is a whole network" if kind.is_whole_network else "holds more than weights"
    return CheckpointError(
        f"{path.name} {what} and would have to run code to be opened, so it is "
        f"refused: it asks for {asked_for[1]}.",
        "If you trust it, save its weights alone, in Python: torch.save("
        f"torch.load(FILE, weights_only=False){weights}, NEW).",
    )


def strip_prefix(state: State, key: str) -> State:
    """Remove a prefix, such as that of a Lightning module, from all keys.

    Parameters
    ----------
    state
        Weights by key.
    key
        Key that every network of the kind has. The prefix is what precedes it.

    Returns
    -------
    The weights without the prefix; unchanged if the key is there, or is not found
    exactly once.

    Raises
    ------
    CheckpointError
        If some keys do not have the prefix.
    """
    ends = [found for found in state if found.endswith(f".{key}")]
    if key in state or len(ends) != 1:
        return state
    prefix = ends[0].removesuffix(key)
    others = [found for found in state if not found.startswith(prefix)]
    if others:
        raise CheckpointError(
            f"The network's keys have the prefix {prefix!r}, but not all keys: "
            f"{listed(others)}.",
            f"Save only the weights with the prefix {prefix!r}, without it, in Python: "
            f"{{k.removeprefix({prefix!r}): v for k, v in state.items() if "
            f"k.startswith({prefix!r})}}.",
        )
    return {found.removeprefix(prefix): v for found, v in state.items()}


def fill(
    model: Segmenter, state: Mapping[str, Tensor], title: str, without: str = ""
) -> Segmenter:
    """Load a state_dict with the model's keys and set the model to eval mode.

    Modules that only training needs may be missing, because checkpoints omit them.

    Parameters
    ----------
    model
        The network; it is changed.
    state
        Weights by key.
    title
        Name of the network, for the error message.
    without
        Prefix of keys that are not used; empty: all keys are used.

    Returns
    -------
    Segmenter
        The same network.

    Raises
    ------
    CheckpointError
        If keys are missing, unknown or of another shape; the message lists all.
    """
    found = {k: v for k, v in state.items() if not without or not k.startswith(without)}
    training = tuple(f"{part}." for part in model.training_only_modules)
    model.load_state_dict(complete(found, model.state_dict(), title, training))
    return model.eval()


def complete(
    found: State, expected: State, title: str, spare: tuple[str, ...] = ()
) -> State:
    """Return a state_dict with exactly the expected keys.

    Missing keys of two kinds are copied from ``expected``: counts of batches, which old
    versions of torch did not save and which are not read, and keys with a prefix of
    ``spare``.

    Parameters
    ----------
    found
        Weights of the file by key.
    expected
        Weights of the network by key.
    title
        Name of the network, for the error message.
    spare
        Prefixes of keys that may be missing.

    Raises
    ------
    CheckpointError
        If keys are missing, unknown or of another shape, or values are not finite.
    """
    kept = {
        k: v
        for k, v in expected.items()
        if k.endswith(".num_batches_tracked") or k.startswith(spare)
    }
    found = {**kept, **found}
    problems = state_mismatches(expected, found)
    if problems:
        raise CheckpointError(
            f"This is not {title} as it is known here. {'; '.join(problems)}.",
            "Check that the file belongs to the model, and is of its authors' code.",
        )
    bad = [k for k, v in found.items() if not bool(torch.isfinite(v).all())]
    if bad:
        raise CheckpointError(
            f"The file holds weights that are not finite: {listed(bad)}.",
            "Get the file again from where it came from.",
        )
    return found


def count_classes(state: Mapping[str, Tensor], key: str, title: str) -> int:
    """Return the number of outputs of the last convolution.

    Parameters
    ----------
    state
        Weights by key.
    key
        Key of the convolution's weight.
    title
        Name of the network, for the error message.

    Raises
    ------
    CheckpointError
        If the key is missing or is not the weight of a convolution.
    """
    if key not in state or state[key].ndim != 4:
        raise CheckpointError(
            f"The file is not of {title}: it has no {key}. It has {listed(state)}.",
            "Choose the method the file belongs to.",
        )
    return len(state[key])


def chosen_legend(legend: Legend | None, count: int, deepglobe: bool = True) -> Legend:
    """Return the requested legend or a default one.

    Parameters
    ----------
    legend
        The requested legend; ``None``: the default.
    count
        Number of classes of the network.
    deepglobe
        If True, the default for seven classes is DeepGlobe's legend. Other defaults
        are numbered classes.

    Raises
    ------
    CheckpointError
        If the requested legend has another number of classes.
    """
    if legend is None:
        known = LEGENDS["deepglobe"]
        return known if deepglobe and count == len(known) else numbered_legend(count)
    if len(legend) != count:
        raise CheckpointError(
            f"The network labels {count} classes, the legend has {len(legend)}: "
            f"{quoted(c.name for c in legend)}.",
            "Give the classes in the order of the network's outputs.",
        )
    return legend


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return the first ``most`` names, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _damaged(path: Path, why: object = "") -> CheckpointError:
    first = str(why).partition("\n")[0].rstrip(".")
    why = f": {first}" if " " in first else ""
    return CheckpointError(
        f"{path.name} cannot be read as weights of torch{why}.",
        "It may be cut off, or of another kind: get it again from where it came from.",
    )
