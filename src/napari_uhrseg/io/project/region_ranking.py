"""Ranking of the uncertain regions of all images of a project."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.corrections.uncertain_regions import find_uncertain_regions
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.paths import PathOrUrl, exists
from napari_uhrseg.types import Roi, UncertainRegion


@dataclass(frozen=True, slots=True)
class ProjectRegion:
    """Uncertain region of an image of a project.

    Attributes
    ----------
    image
        Path of the image in the project.
    labels
        Label store of the image.
    region
        The region.
    """

    image: str
    labels: PathOrUrl
    region: UncertainRegion

    @property
    def name(self) -> str:
        """Name of the image."""
        return PurePosixPath(self.image).name


def rank_uncertain_regions(
    labels: Mapping[str, Callable[[], PathOrUrl]],
    seen: Mapping[PathOrUrl, Collection[Roi]] | None = None,
) -> tuple[tuple[ProjectRegion, ...], dict[str, UhrSegError]]:
    """Return the uncertain regions of several images, the least certain first.

    Regions with corrections are left out, and so are images without labels.

    Parameters
    ----------
    labels
        Path of each image to a function that returns the path of its label store.
    seen
        Level-0 rectangles that were visited, by label store. They are left out.

    Returns
    -------
    tuple of ProjectRegion
        The regions.
    dict
        Path of each image whose labels could not be read to the error.
    """
    found: list[ProjectRegion] = []
    failed: dict[str, UhrSegError] = {}
    for image, path in labels.items():
        try:
            where = path()
            if exists(where):
                with LabelStore.open(where) as store:
                    regions = find_uncertain_regions(store, (seen or {}).get(where, ()))
                found += [ProjectRegion(image, where, region) for region in regions]
        except UhrSegError as error:
            failed[image] = error
    found.sort(key=lambda each: -each.region.score)
    return tuple(found), failed
