"""Mapping between classes of a label store and channels of a network."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

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
    found; without a run, the names do. Other classes of the store are added if they are
    corrected.

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
    classes = [known.get(i, c) for i, c in zip(ids, network, strict=True)]
    added = sorted({into.get(i, i) for i in corrected} & known.keys() - set(ids))
    ids += added
    classes += [known[i] for i in added]
    of = {i: k for k, i in reversed(list(enumerate(ids))) if i}
    channels = np.full(256, IGNORED, np.uint8)
    for i in known:
        channels[i] = of.get(into.get(i, i), IGNORED)
    merged = [of.get(into.get(i, i), k) for k, i in enumerate(ids)]
    return ClassMapping(_distinct(classes), channels, np.array(merged, np.uint8))


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


def _distinct(classes: Sequence[LabelClass]) -> Legend:
    """Return a legend in which repeated ids are replaced by free ones."""
    taken: set[int] = set()
    found = []
    for c in classes:
        kept = c.id if c.id not in taken else max(*taken, *(o.id for o in classes)) + 1
        taken.add(kept)
        found.append(replace(c, id=kept))
    return Legend(tuple(found))
