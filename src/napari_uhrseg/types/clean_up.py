"""Settings of the clean-up of labels."""

from dataclasses import dataclass

from napari_uhrseg.types.area_size import AreaSize

MAX_RADIUS = 50  # pixels of the majority filter
NOTHING = AreaSize(0)


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Settings of the clean-up of labels, in the order in which they are applied.

    Attributes
    ----------
    majority
        Each pixel gets the most frequent label of the square that reaches this number
        of pixels in each direction, 0 to 50. 0: no filter.
    min_object
        Smaller objects get the label of their largest neighbour. An object is a
        4-connected region of one class.
    fill_holes
        Smaller regions without a label get the label of their largest neighbour.
    """

    majority: int = 0
    min_object: AreaSize = NOTHING
    fill_holes: AreaSize = NOTHING

    def __post_init__(self) -> None:
        if not 0 <= self.majority <= MAX_RADIUS:
            raise ValueError(f"a majority filter of {self.majority} pixels")

    def __bool__(self) -> bool:
        """Return whether the settings may change a label."""
        return bool(self.majority or self.min_object.value or self.fill_holes.value)
