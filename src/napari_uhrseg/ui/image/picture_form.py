"""Form for the picture of an image: bands as colours, and the contrast."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QComboBox, QLineEdit, QWidget

from napari_uhrseg.io.image.band_colors import false_color, true_color
from napari_uhrseg.io.image.composite import ContrastLimits, Picture, default_picture
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.ui.layers.label_layers import KEY, show_picture
from napari_uhrseg.ui.layers.picture import ImageDisplay, display_of
from napari_uhrseg.ui.widgets.layout import (
    add_row,
    combo,
    form_of,
    narrow,
    note,
    on_edited,
    row_of,
)
from napari_uhrseg.ui.widgets.number_text import local, plain

TRUE, FALSE, OTHER, CHANNELS = "true", "false", "other", "channels"
COLORS = ("Red", "Green", "Blue")
STRETCHES = (
    ("2 to 98 % per band", "percentiles"),
    ("Whole range", "full"),
    ("Custom", "custom"),
)
NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"


class PictureForm(QWidget):
    """Form for the bands that are displayed as colours, and for their stretch."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._display: ImageDisplay | None = None
        self.colors = combo(
            "Bands that are displayed as red, green and blue, or one layer per band. "
            "False colour displays near infrared, red and green."
        )
        self.bands = [combo(f"Band displayed as {c.lower()}.") for c in COLORS]
        self.stretch = combo(
            "Values displayed as black and white. The choice is kept with the image. "
            "It changes the display only, not the input of the network."
        )
        for title, kind in STRETCHES:
            self.stretch.addItem(title, kind)
        self.limits = QLineEdit()
        narrow(self.limits)
        self.limits.setToolTip(
            "Lowest and highest value of red, green and blue, for example "
            "300 to 2900; 280 to 2500; 200 to 1800."
        )
        self.input = note()
        self.input.setAccessibleName("Input of the network")
        self._form = form_of(self)
        add_row(self._form, "Colours", self.colors)
        self._form.addRow(row_of(*self.bands))
        for box, color in zip(self.bands, COLORS, strict=True):
            box.setAccessibleName(color)
        add_row(self._form, "Stretch", self.stretch)
        add_row(self._form, "Black to white", self.limits)
        self._form.addRow(self.input)
        self.colors.activated.connect(self._colors_chosen)
        self.stretch.activated.connect(self._stretch_chosen)
        for box in self.bands:
            box.activated.connect(self._bands_chosen)
        on_edited(self.limits, self._limits_edited)
        self.hide()

    def set_layer(self, layer: Any) -> None:
        """Show the picture of the layer's image; None, or an unknown image, hides it.

        The form is hidden too if there is nothing to choose.
        """
        self.stop()
        image = None if layer is None else layer.metadata.get(KEY)
        self.set_input("")
        if image is None or not _is_adjustable(image):
            self.hide()
            return
        self._display = display_of(image)
        self._display.changed.connect(self._render)
        self._fill(image)
        self._render()
        self.show()

    def set_input(self, text: str) -> None:
        """Show the bands and the value range that the network gets."""
        self.input.setText(f"Input of the network: {text}" if text else "")
        self.input.setVisible(bool(text))

    def stop(self) -> None:
        """Disconnect from the image."""
        if self._display is not None:
            self._display.changed.disconnect(self._render)
        self._display = None

    def _fill(self, image: Image) -> None:
        """List what can be chosen."""
        with QSignalBlocker(self.colors):
            self.colors.clear()
            if image.rgb or true_color(image.bands):
                self.colors.addItem("True colour", TRUE)
            if false_color(image.bands):
                self.colors.addItem("False colour (NIR)", FALSE)
            if len(image.bands) > 2:
                self.colors.addItem("Three bands", OTHER)
            self.colors.addItem("One layer per band", CHANNELS)
        for box in self.bands:
            with QSignalBlocker(box):
                box.clear()
                box.addItems([band.name for band in image.bands])

    def _render(self) -> None:
        """Show the picture as it is."""
        if self._display is None:
            return
        image, picture = self._display.image, self._display.picture
        named = _named_bands(image)
        kinds = [kind for kind, bands in named.items() if bands == picture.bands]
        kind = kinds[0] if kinds else OTHER if picture.bands else CHANNELS
        self._choose(self.colors, kind)
        self._choose(self.stretch, picture.stretch)
        for box, band in zip(self.bands, picture.bands, strict=False):
            with QSignalBlocker(box):
                box.setCurrentIndex(band)
        limits = self._display.limits
        self.limits.setText("; ".join(map(_range_text, limits)))
        self.limits.setCursorPosition(0)
        single = bool(picture.bands)
        self._form.setRowVisible(self.colors, len(image.bands) > 1)
        self._form.setRowVisible(1, single)
        self._form.setRowVisible(self.limits, single)

    def _choose(self, box: QComboBox, kind: str) -> None:
        with QSignalBlocker(box):
            box.setCurrentIndex(box.findData(kind))

    def _show(self, picture: Picture) -> None:
        if self._display is not None:
            show_picture(self._viewer, self._display.image, picture)
            self._render()

    def _colors_chosen(self) -> None:
        if self._display is None:
            return
        image, picture = self._display.image, self._display.picture
        kind = self.colors.currentData()
        named = _named_bands(image)
        bands = picture.bands or default_picture(image).bands or (0, 1, 2)
        bands = () if kind == CHANNELS else named.get(kind, bands)
        if bands != picture.bands:
            stretch = "percentiles" if picture.stretch == "custom" else picture.stretch
            self._show(Picture(bands, stretch))

    def _bands_chosen(self) -> None:
        if self._display is None:
            return
        bands = tuple(box.currentIndex() for box in self.bands)
        stretch = self._display.picture.stretch
        stretch = "percentiles" if stretch == "custom" else stretch
        self._show(Picture(bands, stretch))

    def _stretch_chosen(self) -> None:
        if self._display is None:
            return
        kind = self.stretch.currentData()
        limits = self._display.limits if kind == "custom" else ()
        self._show(replace(self._display.picture, stretch=kind, limits=limits))

    def _limits_edited(self) -> None:
        """Use the limits of the line if they are valid; else show those in use."""
        if self._display is None:
            return
        limits = parse_limits(self.limits.text())
        picture = replace(self._display.picture, stretch="custom", limits=limits)
        if picture.fits(self._display.image):
            self._show(picture)
        else:
            self._render()


def _range_text(pair: ContrastLimits) -> str:
    low, high = (local(f"{value:g}") for value in pair)
    return f"{low} to {high}"


def parse_limits(text: str) -> tuple[ContrastLimits, ...]:
    """Return the pairs of numbers of a text such as ``"0 to 9; 0 to 8"``.

    A number without a second one is left out.
    """
    numbers = [float(x) for x in re.findall(NUMBER, plain(text.lower()))]
    return tuple(zip(numbers[::2], numbers[1::2], strict=False))


def _is_adjustable(image: Image) -> bool:
    """Return False for colour images and single bands of 8 bits, shown unchanged."""
    count = len(image.bands)
    if image.dtype == np.uint8 or image.dtype.kind == "b":
        return count > (3 if image.rgb else 1)
    return True


def _named_bands(image: Image) -> dict[str, tuple[int, ...]]:
    """Return the bands of true and of false colour, where they are known."""
    true = image.rgb_bands or true_color(image.bands)
    named = {TRUE: true, FALSE: false_color(image.bands)}
    return {kind: bands for kind, bands in named.items() if bands}
