"""Form for the clean-up of labels: filter, smallest object, largest hole."""

from collections.abc import Mapping
from typing import Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFormLayout, QLineEdit, QSpinBox

from napari_uhrseg.types import AreaSize, CleanUp
from napari_uhrseg.types.clean_up import MAX_RADIUS
from napari_uhrseg.ui.widgets.layout import add_row, narrow, on_edited
from napari_uhrseg.ui.widgets.number_text import local, plain


class CleanUpForm(QObject):
    """Rows for a clean-up in a form layout."""

    changed = Signal()

    def __init__(self, form: QFormLayout) -> None:
        super().__init__(form)
        self.majority = QSpinBox()
        self.majority.setRange(0, MAX_RADIUS)
        self.majority.setSpecialValueText("off")
        self.majority.setSuffix(" px")
        self.majority.setToolTip(
            "Each pixel gets the most frequent label within this number of pixels."
        )
        self.majority.valueChanged.connect(lambda _: self.changed.emit())
        self.object, self.hole = QLineEdit(), QLineEdit()
        add_row(form, "Majority", self.majority)
        for line, title, tip in (
            (self.object, "Smallest object", "Smaller objects join a neighbour."),
            (self.hole, "Largest hole", "Smaller regions without a label are filled."),
        ):
            narrow(line)
            line.setPlaceholderText("off (e.g. 50 um2)")
            line.setToolTip(f"{tip} An area such as 50 um2 or 20 m2, or pixels.")
            add_row(form, title, line)
            on_edited(line, self.changed.emit)

    def settings(self) -> CleanUp:
        """Return the settings.

        Raises
        ------
        UhrSegError
            If a size is not an area.
        """
        sizes = [
            AreaSize.parse(plain(line.text()) or "0")
            for line in (self.object, self.hole)
        ]
        return CleanUp(self.majority.value(), *sizes)

    def set_enabled(self, enabled: bool) -> None:
        """Enable or disable the fields."""
        for field in (self.majority, self.object, self.hole):
            field.setEnabled(enabled)

    def choices(self) -> dict[str, Any]:
        """Return the contents of the fields by name."""
        return {
            "majority": self.majority.value(),
            "min_object": plain(self.object.text()),
            "fill_holes": plain(self.hole.text()),
        }

    def set_choices(self, values: Mapping[str, Any]) -> None:
        """Show what `choices` has returned; unknown values have no effect."""
        if isinstance(values.get("majority"), int):
            self.majority.setValue(values["majority"])
        for line, name in ((self.object, "min_object"), (self.hole, "fill_holes")):
            if isinstance(values.get(name), str):
                line.setText(local(values[name]))
