"""Export of labels in a worker, after a clean-up if one is chosen."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from napari_uhrseg.types import CleanUp

if TYPE_CHECKING:
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.paths import PathOrUrl

NOTHING = CleanUp()
CLEANED = 0.5  # share of the progress that the clean-up has


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Format of an export, changes of outlines in pixels, and clean-up."""

    format_name: str
    simplify: float = 0.0
    smooth: float = 0.0
    clean_up: CleanUp = NOTHING


def write_labels(
    store: "LabelStore", target: Path, options: ExportOptions, *, overwrite: bool
) -> Iterator[float]:
    """Write the displayed labels of a store to a file.

    Parameters
    ----------
    store
        The labels, which do not change.
    target
        File or folder to write.
    options
        Format and options.
    overwrite
        If True, an existing target is replaced.

    Yields
    ------
    float
        Finished fraction, from 0 to 1.
    """
    if not options.clean_up:
        yield from _export(store, target, options, overwrite)
        return
    from napari_uhrseg.io.cleanup.clean_labels import clean_labels
    from napari_uhrseg.io.export import check_target
    from napari_uhrseg.io.labels.store import LabelStore

    check_target(store, target.absolute(), overwrite=overwrite)
    with TemporaryDirectory(prefix="napari-uhrseg-") as folder:
        path: PathOrUrl = Path(folder)
        for step in clean_labels(store, options.clean_up, Path(folder)):
            if isinstance(step, float):
                yield CLEANED * step
            else:
                path = step
        with LabelStore.open(path) as cleaned:
            for done in _export(cleaned, target, options, overwrite):
                yield CLEANED + (1 - CLEANED) * done


def _export(
    store: "LabelStore", target: Path, options: ExportOptions, overwrite: bool
) -> Iterator[float]:
    from napari_uhrseg.io.export import export

    return export(
        store,
        target,
        options.format_name,
        simplify=options.simplify,
        smooth=options.smooth,
        overwrite=overwrite,
    )
