"""Mapping between classes of a label store and channels of a network."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_uhrseg.errors import TrainingError
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.models.checkpoint import Checkpoint
from napari_uhrseg.types import IGNORED, LabelClass, Legend


@dataclass(frozen=True, slots=True)
class ClassMapping:
    """Mapping between a network's channels and a store's class ids.

    Parameters
    ----------
    legend
        Classes of the network as the store names them, then the classes it lacked.
    channels
        (256,) uint8 channel of each class id; 255: there is none.
    merged
        (K,) uint8 channel to which each channel is merged; itself without a merge.
    """

    legend: Legend
    channels: npt.NDArray[np.uint8]
    merged: npt.NDArray[np.uint8]


def map_classes(
    checkpoint: Checkpoint, store: LabelStore, corrected: Collection[int]
) -> ClassMapping:
    """Map the channels of a checkpoint to the classes of a store.

    The ids of the checkpoint's last run in the store decide, so that a renamed class is
    found; without a run, the names do. If several channels have one class, it is that
    of the channel with its name, and the others are merged into this channel. Other
    classes of the store are added if they are corrected.

    Parameters
    ----------
    checkpoint
        The checkpoint to fine-tune.
    store
        The labels.
    corrected
        Class ids that occur in the corrections.

    Returns
    -------
    ClassMapping
        Classes of the network, followed by added ones.
    """
    network = list(checkpoint.card.legend)
    known = {c.id: c for c in store.legend}
    ids = _store_ids(checkpoint, store)
    into = store.aliases
    of = _channel_of(ids, network, known)
    classes = [
        known[i] if i in known and of[i] == k else c
        for k, (i, c) in enumerate(zip(ids, network, strict=True))
    ]
    added = sorted({into.get(i, i) for i in corrected} & known.keys() - set(ids))
    of |= {i: k for k, i in enumerate(added, len(ids))}
    ids += added
    classes += [known[i] for i in added]
    channels = np.full(256, IGNORED, np.uint8)
    for i in {*known, *into}:  # also deleted classes
        channels[i] = of.get(into.get(i, i), IGNORED)
    merged = [of.get(into.get(i, i), k) for k, i in enumerate(ids)]
    shown = _distinct(classes, {k for i, k in of.items() if i in known})
    return ClassMapping(shown, channels, np.array(merged, np.uint8))


def _channel_of(
    ids: Sequence[int], network: Sequence[LabelClass], known: Mapping[int, LabelClass]
) -> dict[int, int]:
    """Return the channel of each class id: the one with its name, else the first."""

    def differs(k: int) -> bool:
        c = known.get(ids[k])
        return c is None or network[k].name not in (c.name, *c.former_names)

    best_last = sorted(range(len(ids)), key=differs)[::-1]
    return {ids[k]: k for k in best_last if ids[k]}


def unify(matches: Sequence[ClassMapping], known: int) -> list[ClassMapping]:
    """Return the mappings of several stores with one legend, in which names agree.

    Parameters
    ----------
    matches
        Mappings of one checkpoint to each store.
    known
        Number of classes of the checkpoint, which are the first ones of each mapping.

    Raises
    ------
    TrainingError
        If the stores merge a class into different classes, or one store merges a class
        into another one that a second store merges.
    """
    if len(matches) == 1:
        return list(matches)
    classes = list(matches[0].legend)[:known]
    tables = []
    for match in matches:
        table = np.arange(256, dtype=np.uint8)
        for place, label in enumerate(list(match.legend)[known:], known):
            names = [c.name for c in classes]
            if label.name not in names:
                classes.append(label)
            index = names.index(label.name) if label.name in names else len(names)
            table[place] = index
        tables.append(table)
    merged = np.arange(256, dtype=np.uint8)
    for match, table in zip(matches, tables, strict=True):
        for place in range(known):
            into = table[match.merged[place]]
            if merged[place] not in (place, into) and into != place:
                raise TrainingError(
                    f"The label stores merge {classes[place].name} into different "
                    "classes.",
                    "Give them the same merges: napari-uhrseg classes STORE --merge.",
                )
            merged[place] = merged[place] if into == place else into
    _check_chains(merged, classes)
    legend, count = _distinct(classes, range(len(classes))), len(classes)
    return [
        ClassMapping(legend, merged[table[match.channels]], merged[:count])
        for match, table in zip(matches, tables, strict=True)
    ]


def _check_chains(merged: npt.NDArray[np.uint8], classes: Sequence[LabelClass]) -> None:
    """Raise TrainingError if a class is merged into one that is merged itself."""
    for first, second in enumerate(merged[: len(classes)].tolist()):
        third = merged[second]
        if third != second:
            names = [classes[k].name for k in (first, second, third)]
            raise TrainingError(
                f"A label store merges {names[0]} into {names[1]}, and another one "
                f"merges {names[1]} into {names[2]}.",
                "Give them the same merges: napari-uhrseg classes STORE --merge.",
            )


def _store_ids(checkpoint: Checkpoint, store: LabelStore) -> list[int]:
    """Return the class id of each channel in a store; 0: the store has no such class.

    They are those of the checkpoint's last run, otherwise those of the same names.
    """
    runs = [
        run
        for run in store.runs
        if checkpoint.hash and run.checkpoint_hash == checkpoint.hash
    ]
    if runs:
        return list(runs[-1].class_map)
    named = (store.legend.named(c.name) for c in checkpoint.card.legend)
    return [c.id if c else 0 for c in named]


def _distinct(classes: Sequence[LabelClass], kept: Collection[int]) -> Legend:
    """Return a legend in which repeated ids and names are replaced by free ones.

    Parameters
    ----------
    classes
        The classes.
    kept
        Places of the classes that keep their names, which are distinct.
    """
    taken: set[int] = set()
    names = {classes[k].name for k in kept}
    found = []
    for k, c in enumerate(classes):
        free = c.id if c.id not in taken else max(*taken, *(o.id for o in classes)) + 1
        taken.add(free)
        name, number = c.name, 2
        while k not in kept and name in names:
            name, number = f"{c.name} ({number})", number + 1
        names.add(name)
        found.append(replace(c, id=free, name=name))
    return Legend(tuple(found))
