"""Form for the device and the memory budget.

A worker lists the devices, because importing torch takes seconds.
"""

from dataclasses import dataclass

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QSpinBox, QWidget

from napari_uhrseg.ui.widgets.layout import add_row, combo, form_of, narrow
from napari_uhrseg.ui.workers.import_torch import load_torch
from napari_uhrseg.ui.workers.worker import Workers
from napari_uhrseg.units import MB, format_bytes

MIN_MEMORY = 64  # MB
WORKER_DEFAULT = "worker default"


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """Device to choose, with its memory in bytes; this class does not need torch."""

    id: str
    name: str
    total_bytes: int
    default_bytes: int


class HardwareForm(QWidget):
    """Form for device and memory; ``device`` is None until devices are found."""

    changed = Signal()

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers
        self._choices: dict[str, DeviceChoice] = {}
        self._remote = False
        self.box = combo("PyTorch is being loaded.")
        self.box.addItem("Looking for devices…", None)
        self.box.setEnabled(False)
        self.memory = QSpinBox()
        self.memory.setRange(MIN_MEMORY, 4 * 1024 * 1024)
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

    def list_devices(self) -> None:
        """List the devices in a worker, because importing torch takes seconds."""
        self._workers.call(find_devices, returned=self.set_choices)

    @property
    def device(self) -> str | None:
        device: str | None = self.box.currentData()
        return device

    @property
    def budget_bytes(self) -> int:
        """Return the memory budget.

        0 means the default of the device, or of each worker of a cluster. It is 0 until
        the devices are found.
        """
        known = self._remote or self._choices
        return int(self.memory.value()) * MB if known else 0

    def set_remote(self, remote: bool) -> None:
        """Choose the memory for the workers of a cluster (True) or for this machine."""
        if remote == self._remote:
            return
        self._remote = remote
        self.memory.blockSignals(True)
        self.memory.setMinimum(0 if remote else MIN_MEMORY)
        self.memory.setSpecialValueText(WORKER_DEFAULT if remote else "")
        self.memory.setValue(0)
        self.memory.blockSignals(False)
        self._chosen()

    def set_choices(self, choices: list[DeviceChoice]) -> None:
        """List these devices and choose the first."""
        self._choices = {c.id: c for c in choices}
        self.box.blockSignals(True)
        self.box.clear()
        for c in choices:
            same_name = sum(c.name == other.name for other in choices) > 1
            self.box.addItem(f"{c.name} ({c.id})" if same_name else c.name, c.id)
        self.box.blockSignals(False)
        self.memory.setEnabled(True)
        self._chosen()

    def _chosen(self) -> None:
        self.box.setEnabled(bool(self._choices) and not self._remote)
        if self._remote:
            self.box.setToolTip("The workers of the cluster use their own devices.")
            self.memory.setToolTip(
                "Memory budget of each worker on its device. 0: the default, half of "
                "a GPU's memory or a quarter of main memory, at most 8 GB."
            )
            self.changed.emit()
            return
        choice = self._choices.get(self.device or "")
        if choice is None:
            return
        tip = f"{choice.name}, {format_bytes(choice.total_bytes)} memory"
        only_cpu = choice.id == "cpu" and len(self._choices) == 1
        self.box.setToolTip(f"{tip}; no GPU was found" if only_cpu else tip)
        self.memory.setToolTip(
            "Memory budget of a run on this device. A larger budget allows larger "
            "batches, which is faster; the plan shows the effect. Default: "
            f"{format_bytes(choice.default_bytes)}."
        )
        self.memory.blockSignals(True)
        self.memory.setValue(choice.default_bytes // MB)
        self.memory.blockSignals(False)
        self.changed.emit()


def find_devices() -> list[DeviceChoice]:
    """Return the devices with their default budgets. This imports torch."""
    load_torch()
    from napari_uhrseg.engine.network.device import MemoryBudget, devices

    return [
        DeviceChoice(
            d.id, d.name, d.total_bytes, MemoryBudget.default(d.id).device_bytes
        )
        for d in devices()
    ]
