"""Check that the classes of a data set occur in its training scenes."""

from collections.abc import Iterator, Sequence

import numpy as np

from napari_uhrseg.engine.data.scenes import Scene, SceneDataset
from napari_uhrseg.errors import TrainingError


def check_classes(source: SceneDataset) -> tuple[str, ...]:
    """Return messages about classes that cannot be learned.

    Raises
    ------
    TrainingError
        If the training scenes have labels of fewer than two classes.
    """
    if not source.pixel_counts:
        return ()
    names = [c.name for c in source.legend]
    shown, tested = (_counts(source, s) for s in (source.training, source.held_out))
    present = [name for name, count in zip(names, shown, strict=True) if count]
    if len(present) < 2:
        raise TrainingError(
            "The training scenes have labels of fewer than two classes "
            f"({', '.join(present) or 'none'}).",
            "Check the mask values, the classes file, the ignored values and nodata, "
            "or choose other validation scenes.",
        )
    return tuple(_missing(source, shown, tested))


def _missing(
    source: SceneDataset, shown: Sequence[int], tested: Sequence[int]
) -> Iterator[str]:
    for k, label in enumerate(source.legend):
        if shown[k]:
            continue
        if tested[k]:
            scenes = [s.name for s in source.held_out if source.pixel_counts[s.name][k]]
            yield (
                f"the class {label.name!r} occurs only in validation scenes "
                f"({', '.join(scenes)}) and cannot be learned"
            )
        else:
            yield f"the class {label.name!r} occurs in no mask and cannot be learned"


def _counts(source: SceneDataset, scenes: Sequence[Scene]) -> list[int]:
    """Return the labelled pixels of each class in some scenes."""
    each = [source.pixel_counts[scene.name] for scene in scenes]
    counts: list[int] = np.sum([[0] * len(source.legend), *each], axis=0).tolist()
    return counts
