"""Area that a user writes as text, such as ``50 um2`` or ``200``."""

import re
from dataclasses import dataclass
from typing import Self

from napari_uhrseg.errors import UhrSegError

_PATTERN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zµμ]*[2²]?)\s*", re.IGNORECASE)
_SQUARE_METRES = {
    "µm²": 1e-12, "mm²": 1e-6, "cm²": 1e-4, "m²": 1.0, "ha": 1e4, "km²": 1e6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AreaSize:
    """Area with its unit: ``px``, ``µm²``, ``mm²``, ``cm²``, ``m²``, ``ha`` or ``km²``.

    ``value`` is a finite number of at least 0 in the unit.
    """

    value: float
    unit: str = "px"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the area of a text such as ``"50 um2"``, ``"0.1 ha"`` or ``"200"``.

        A number without a unit is in pixels.

        Raises
        ------
        UhrSegError
            If the text is not an area.
        """
        found = _PATTERN.fullmatch(text)
        if found is not None:
            unit = found[2].lower().replace("2", "²").replace("μ", "µ")
            unit = {"": "px", "um²": "µm²"}.get(unit, unit)
            if (unit == "px" or unit in _SQUARE_METRES) and len(found[1]) <= 15:
                return cls(float(found[1]), unit)
        raise UhrSegError(
            f"{text!r} is not an area.",
            "Write it as 50 um2, 0.1 mm2, 20 m2, 1 ha, or 200 (pixels).",
        )

    def pixels(self, square_metres: float | None) -> float:
        """Return the area in pixels.

        Parameters
        ----------
        square_metres
            Area of a pixel in m²; None if it is unknown.

        Raises
        ------
        UhrSegError
            If the unit is not ``px``, and the area of a pixel is unknown.
        """
        if self.unit == "px":
            return self.value
        if not square_metres:
            raise UhrSegError(
                f"The pixel size of the image is unknown, so {self} is not known in "
                "pixels.",
                "Write the area in pixels, for example 200.",
            )
        return self.value * _SQUARE_METRES[self.unit] / square_metres

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit}"
