"""Tests of the memory budget before and after the devices are found."""

import pytest

from napari_uhrseg.engine.network.device import MemoryBudget
from napari_uhrseg.ui.segment.hardware import HardwareForm, find_devices
from napari_uhrseg.ui.segment.worker import budget_of
from napari_uhrseg.ui.workers.worker import Workers


@pytest.fixture
def hardware(qtbot) -> HardwareForm:
    form = HardwareForm(Workers())
    qtbot.addWidget(form)
    return form


def test_before_devices_are_found_the_budget_is_the_default(hardware):
    assert hardware.device is None
    budget = budget_of("cpu", hardware.budget_bytes)
    assert budget == MemoryBudget.default("cpu")
    assert budget.device_bytes > 64 << 20


def test_chosen_budget_replaces_the_default(hardware):
    hardware.set_choices([c for c in find_devices() if c.id == "cpu"])
    hardware.memory.setValue(512)
    budget = budget_of("cpu", hardware.budget_bytes)
    assert budget.device_bytes == 512 << 20
    assert budget.host_bytes == MemoryBudget.default("cpu").host_bytes


def test_unset_budget_of_a_cluster_is_the_default_on_this_machine(hardware):
    hardware.set_choices([c for c in find_devices() if c.id == "cpu"])
    hardware.set_remote(True)
    assert budget_of("cpu", hardware.budget_bytes) == MemoryBudget.default("cpu")
