"""Tests of the import of torch with the garbage collector off."""

import gc
import subprocess
import sys
from importlib.abc import MetaPathFinder

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image, Shapes

from napari_uhrseg.ui.workers import import_torch


@pytest.fixture(scope="module", autouse=True)
def collect_only_what_tests_make():
    """Leave the garbage collector as it is, unlike in the tests of windows."""


HEAVY = {"torch", "timm", "zarr", "pyqtgraph"}
PROCESS = f"""
import gc, sys, threading
import napari_uhrseg.ui.panel
print(*({HEAVY} & set(sys.modules)))
from napari_uhrseg.ui.workers.import_torch import MODULES, load_torch, thaw
sys.modules["triton"] = None
threads = [threading.Thread(target=load_torch) for _ in range(2)]
[t.start() for t in threads]; [t.join() for t in threads]
there = all(m in sys.modules for m in MODULES)
print(there, gc.get_threshold()[0] > 0, gc.get_freeze_count() > 100_000)
thaw()
print(gc.get_freeze_count())
"""


@pytest.fixture(scope="module")
def fresh_process() -> list[str]:
    """Return the lines that a process prints which imports the panel, then torch."""
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_imported_objects_are_frozen_until_large_layer_is_removed(fresh_process):
    assert fresh_process[1:] == ["True True True", "0"]


def test_garbage_collector_is_restored_after_failed_import(monkeypatch):
    class Missing(MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "segmentation_models_pytorch":
                raise ModuleNotFoundError(name)

    monkeypatch.delitem(sys.modules, "segmentation_models_pytorch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    before = gc.get_threshold()
    with pytest.raises(ModuleNotFoundError):
        import_torch.load_torch()
    assert gc.get_threshold() == before
    assert before[0] > 0
    import_torch.thaw()


def test_only_large_arrays_thaw_garbage_collector():
    large, small = np.zeros((9000, 9000), np.uint8), np.zeros((90, 90), np.uint8)
    gc.freeze()
    try:
        import_torch.thaw_for(Image([da.from_array(large), small], multiscale=True))
        import_torch.thaw_for(Shapes())
        assert gc.get_freeze_count()
        import_torch.thaw_for(Image(large))
        assert not gc.get_freeze_count()
    finally:
        gc.unfreeze()


@pytest.mark.slow
def test_panel_opens_without_importing_torch(fresh_process):
    assert fresh_process[0] == ""
