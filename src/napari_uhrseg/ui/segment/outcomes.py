"""Outcomes and plans of runs, which are shown with the image of the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from napari.utils.notifications import show_info

from napari_uhrseg.io.image.image import Image
from napari_uhrseg.ui.layers.label_layers import same_image


@dataclass(frozen=True, slots=True)
class ShownPlan:
    """Last plan as a message, and its image.

    Attributes
    ----------
    image
        Image of the plan; None: there is no plan.
    text
        Plan, input and warnings.
    input
        Bands and value range that the network gets.
    """

    image: Image | None = None
    text: str = ""
    input: str = ""

    def of(self, image: Image | None) -> "ShownPlan":
        """Return this plan if it is that of an image; else an empty one."""
        return self if same_image(image, self.image) else ShownPlan()


class RunOutcomes:
    """Outcome of the last run of each image, until the form is changed."""

    def __init__(self) -> None:
        self._texts: WeakKeyDictionary[Image, str] = WeakKeyDictionary()
        self._image: Image | None = None
        self._removed = ""  # outcome of an image that was removed during its run
        self._keeping = False

    @property
    def text(self) -> str:
        """Outcome of the chosen image; empty if there is none."""
        if self._image is None:
            return self._removed
        return self._texts.get(self._image, "")

    def set_image(self, image: Image | None) -> None:
        """Set the chosen image."""
        self._image, self._removed = image, ""

    def put(self, image: Image | None, outcome: str) -> None:
        """Keep an outcome; a notification shows it if another image is chosen."""
        if image is None:
            return
        self._texts[image] = outcome
        if self._image is None:
            self._removed = outcome
        elif not same_image(image, self._image):
            show_info(f"Segmentation of {image.name}: {outcome}")

    def clear(self) -> None:
        """Forget the outcome of the chosen image."""
        if self._keeping:
            return
        self._removed = ""
        if self._image is not None:
            self._texts.pop(self._image, None)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Ignore `clear` in a block."""
        self._keeping = True
        try:
            yield
        finally:
            self._keeping = False
