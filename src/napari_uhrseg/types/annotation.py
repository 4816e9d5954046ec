"""Annotation regions of a label store: named parts of an image that may be locked."""

from dataclasses import dataclass

from napari_uhrseg.types.regions import MultiPolygon


@dataclass(frozen=True, slots=True)
class AnnotationRegion:
    """Named region of an image.

    Attributes
    ----------
    name
        Name for users.
    region
        Its polygons in level-0 pixels.
    locked
        True if corrections in it must not change.
    """

    name: str
    region: MultiPolygon
    locked: bool = False
