"""Device and memory budget. torch is asked in a thread: importing it takes long."""

from dataclasses import dataclass

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QSpinBox, QWidget

from napari_uhrseg.ui.widgets.layout import add_row, combo, form_of, narrow
from napari_uhrseg.ui.workers.import_torch import load_torch
from napari_uhrseg.ui.workers.worker import Workers
from napari_uhrseg.units import MB, format_bytes

LEAST = 64  # MB
EACH_ITS_OWN = "by each worker"


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device as the panel knows it, without torch; sizes in bytes."""

    id: str
    name: str
    total_bytes: int
    default_bytes: int


class HardwareForm(QWidget):
    """``device`` is None until the devices have been looked for and found."""

    changed = Signal()

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers
        self._choices: dict[str, DeviceChoice] = {}
        self._remote = False
        self.box = combo("torch is being loaded; this takes a moment.")
        self.box.addItem("looking for devices…", None)
        self.box.setEnabled(False)
        self.memory = QSpinBox()
        self.memory.setRange(LEAST, 4 * 1024 * 1024)
        self.memory.setSingleStep(256)
        self.memory.setSuffix(" MB")
        self.memory.setKeyboardTracking(False)
        self.memory.setEnabled(False)
        narrow(self.memory)
        form = form_of(self)
        add_row(form, "&Device", self.box)
        add_row(form, "Memor&y", self.memory)
        self.memory.setAccessibleName("Memory budget")
        self.box.currentIndexChanged.connect(self._chosen)
        self.memory.valueChanged.connect(lambda _: self.changed.emit())

    def find(self) -> None:
        """Look for devices, which takes torch seconds."""
        self._workers.call(find_devices, returned=self.set_choices)

    @property
    def device(self) -> str | None:
        device: str | None = self.box.currentData()
        return device

    @property
    def budget_bytes(self) -> int:
        """0 on a cluster where each worker is to decide for itself."""
        return int(self.memory.value()) * MB

    def set_remote(self, remote: bool) -> None:
        """Whether a cluster's workers do the work: their devices, their memory."""
        if remote == self._remote:
            return
        self._remote = remote
        self.memory.blockSignals(True)
        self.memory.setMinimum(0 if remote else LEAST)
        self.memory.setSpecialValueText(EACH_ITS_OWN if remote else "")
        self.memory.setValue(0)
        self.memory.blockSignals(False)
        self._chosen()

    def set_choices(self, choices: list[DeviceChoice]) -> None:
        """Offer these devices, the first one chosen."""
        self._choices = {c.id: c for c in choices}
        self.box.blockSignals(True)
        self.box.clear()
        for c in choices:
            twice = sum(c.name == other.name for other in choices) > 1
            self.box.addItem(f"{c.name} ({c.id})" if twice else c.name, c.id)
        self.box.blockSignals(False)
        self.memory.setEnabled(True)
        self._chosen()

    def _chosen(self) -> None:
        self.box.setEnabled(bool(self._choices) and not self._remote)
        if self._remote:
            self.box.setToolTip("The workers of the cluster use their own devices.")
            self.memory.setToolTip(
                "Memory budget: what each worker may take on its device. 0: what "
                "it takes by default, half of a GPU's memory or a quarter of main "
                "memory, at most 8 GB."
            )
            self.changed.emit()
            return
        choice = self._choices.get(self.device or "")
        if choice is None:
            return
        tip = f"{choice.name}, {format_bytes(choice.total_bytes)} memory"
        alone = choice.id == "cpu" and len(self._choices) == 1
        self.box.setToolTip(f"{tip}; no GPU was found" if alone else tip)
        self.memory.setToolTip(
            "Memory budget: what a run may take on this device. More allows larger "
            "batches, which is faster; the plan says what follows. Default: "
            f"{format_bytes(choice.default_bytes)}."
        )
        self.memory.blockSignals(True)
        self.memory.setValue(choice.default_bytes // MB)
        self.memory.blockSignals(False)
        self.changed.emit()


def find_devices() -> list[DeviceChoice]:
    """The devices, with the budget each gets by default; imports torch."""
    load_torch()
    from napari_uhrseg.engine.network.device import MemoryBudget, devices

    return [
        DeviceChoice(
            d.id, d.name, d.total_bytes, MemoryBudget.default(d.id).device_bytes
        )
        for d in devices()
    ]
