"""Features of vector files: polygons with a class and a name."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_uhrseg.types import MultiPolygon, Polygon
from napari_uhrseg.units import formatted

Points = npt.NDArray[np.float64]
Rings = list[Points]  # rings (x, y) of a polygon, the outer one first
FLOATS = (float, np.floating)  # columns of GeoPackages may be float32

# properties that may contain the class or the name, by priority
CLASS_KEYS = ("classification", "class", "class_name", "label", "category")
NAME_KEYS = ("name", "title")
ID_KEYS = ("id", "fid", "gid", "objectid", "parcel_id", "parcel", "code")
WITHOUT_GEOMETRY = "without a geometry"
WITHOUT_AREA = "without an area (points, lines, fewer than three corners)"
MAX_COORDINATE = 1e9  # PROJ takes longitudes round by round, for ever beyond 1e16
FLATNESS = 1e-12  # of its length, the width below which a ring is a line


@dataclass(frozen=True, slots=True)
class ParsedFeature:
    """Feature in the coordinates of its file.

    Attributes
    ----------
    polygons
        Its polygons, at least one.
    class_name
        Name of its class; None without one.
    name
        Its name; None without one.
    identifier
        Its identifier; None without one.
    index
        Its index among all features of the file, from 0.
    """

    polygons: tuple[Rings, ...]
    class_name: str | None = None
    name: str | None = None
    identifier: str | None = None
    index: int = 0


@dataclass(frozen=True, slots=True)
class ClassField:
    """Field of a file that contains the classes, and the class of each value.

    Parameters
    ----------
    name
        Name of the field, in any case; None: the fields that QuPath and GIS programs
        use.
    values
        Value as text to the name of the class. Other values are class names themselves.
        Whole numbers have no decimal places.
    """

    name: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)

    def class_of(self, properties: Mapping[str, Any]) -> str | None:
        """Return the class of a feature, whose keys are in lower case; or None."""
        if self.name is None:
            value = _class_name(properties)
        else:
            value = _text(properties.get(self.name.lower()))
        return None if value is None else self.values.get(value, value)


@dataclass(slots=True)
class ParsedFile:
    """Features of a file.

    Attributes
    ----------
    classes
        Field with the classes.
    fields
        Names of all fields of features.
    features
        Features with a polygon.
    skipped
        Number of the other features, by reason.
    crs
        Coordinate system that the file names; None if it names none.
    """

    classes: ClassField = field(default_factory=ClassField)
    fields: set[str] = field(default_factory=set)
    features: list[ParsedFeature] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    crs: str | None = None

    def add(
        self,
        polygons: Iterable[Rings] | None,
        properties: Mapping[str, Any],
        identifier: object = None,
    ) -> None:
        """Add a feature, or count it if it has no area.

        Parameters
        ----------
        polygons
            Its polygons, which may be none; None without a geometry.
        properties
            Its properties.
        identifier
            Its identifier outside the properties; None without one.
        """
        parts = () if polygons is None else tuple(polygons)
        index = len(self.features) + self.skipped.total()
        if not parts:
            reason = WITHOUT_GEOMETRY if polygons is None else WITHOUT_AREA
            self.skipped[reason] += 1
            return
        self.fields.update(properties)
        known = {key.lower(): value for key, value in properties.items()}
        own = _text(_first(known, ID_KEYS))
        feature = ParsedFeature(
            parts,
            self.classes.class_of(known),
            _text(_first(known, NAME_KEYS)),
            _text(identifier) if own is None else own,
            index,
        )
        self.features.append(feature)


@dataclass(frozen=True, slots=True)
class ImportedFeature:
    """Feature in level-0 pixels of an image.

    Attributes
    ----------
    region
        Its polygons.
    class_name
        Name of its class; None without one.
    title
        Its name, otherwise its identifier, otherwise its number from 1.
    index
        Its index among all features of the file, from 0.
    """

    region: MultiPolygon
    class_name: str | None
    title: str
    index: int


@dataclass(frozen=True, slots=True)
class ImportedPolygons:
    """Polygons of a file that touch an image, and the number of the others.

    Attributes
    ----------
    features
        Features that touch the image, at least one.
    outside
        Titles of the features beside the image.
    skipped
        Number of features without an area, by reason.
    guess
        Sentence about coordinates whose system the file does not name; empty if it
        names one.
    """

    features: tuple[ImportedFeature, ...]
    outside: tuple[str, ...]
    skipped: Mapping[str, int]
    guess: str

    @property
    def polygons(self) -> list[tuple[Polygon, str | None]]:
        """Single polygons, each with the class of its feature."""
        return [(p, f.class_name) for f in self.features for p in f.region.polygons]

    def notes(self, image: str) -> list[str]:
        """Return sentences about what was left out or guessed.

        Parameters
        ----------
        image
            Name of the image.
        """
        found = [
            f"Skipped: {formatted(count)} {'feature' if count == 1 else 'features'} "
            f"{reason}."
            for reason, count in self.skipped.items()
        ]
        total = len(self.features) + len(self.outside)
        if self.outside:
            verb = "lies" if len(self.outside) == 1 else "lie"
            found.append(
                f"Skipped: {formatted(len(self.outside))} of {formatted(total)} "
                f"features {verb} beside "
                f"{image}."
            )
        return [*found, self.guess] if self.guess else found


def clean_rings(rings: Iterable[Points]) -> Rings:
    """Return rings without closing corners; without degenerate rings.

    Returns
    -------
    Rings of at least three corners that are not on one line; none if the outer ring
    is degenerate.

    Raises
    ------
    ValueError
        If a coordinate is not finite.
    """
    found: Rings = []
    for points in rings:
        if not np.isfinite(points).all():
            raise ValueError("a coordinate is not a number")
        if len(points) > 1 and (points[0] == points[-1]).all():
            points = points[:-1]
        if len(points) >= 3 and not _is_line(points):
            found.append(points)
        elif not found:
            return []
    return found


def _is_line(points: Points) -> bool:
    """Return whether all corners are on one line, or are one point.

    Coordinates that no coordinate system has are left to the transform, which names
    them in its error.
    """
    if np.abs(points).max() > MAX_COORDINATE:
        return False
    x, y = (points - points[0]).T
    lengths = x * x + y * y
    far = int(np.argmax(lengths))
    widths = np.abs(x * y[far] - y * x[far])
    return bool(widths.max() <= FLATNESS * lengths[far])


def titles(features: Iterable[ParsedFeature]) -> list[str]:
    """Return a distinct title for each feature.

    It is the name; otherwise the identifier, if all identifiers in the file differ;
    otherwise the number from 1. Features without a name have their class in it.
    """
    features = list(features)
    ids = [f.identifier for f in features if f.identifier is not None]
    use_ids = len(set(ids)) == len(ids)
    found: list[str] = []
    used: Counter[str] = Counter()
    for number, feature in enumerate(features, 1):
        title = feature.name
        if title is None:
            known = use_ids and feature.identifier is not None
            start = str(feature.identifier if known else number)
            title = f"{start} {feature.class_name}" if feature.class_name else start
        used[title] += 1
        found.append(title if used[title] == 1 else f"{title} ({used[title]})")
    return found


def _class_name(properties: Mapping[str, Any]) -> str | None:
    value = _first(properties, CLASS_KEYS)
    if isinstance(value, Mapping):
        names = value.get("names")
        if isinstance(names, list) and names:  # QuPath's derived classes
            return ": ".join(str(name) for name in names)
        value = value.get("name")
    return _text(value)


def _first(properties: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """Return the first value that is neither missing nor empty."""
    values = (properties.get(key) for key in keys)
    return next((v for v in values if not _is_empty(v)), None)


def _is_empty(value: Any) -> bool:
    return (
        value is None or value == "" or (isinstance(value, FLOATS) and value != value)
    )


def _text(value: Any) -> str | None:
    """Return a value as text; whole numbers have no decimal places."""
    if isinstance(value, FLOATS) and value.is_integer():
        value = int(value)
    return None if _is_empty(value) else str(value)
