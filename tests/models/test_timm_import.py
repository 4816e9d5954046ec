"""Tests that networks load without torch's compiler, which takes a second."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from napari_uhrseg.models.allocation_limit import AllocationLimit
from napari_uhrseg.samples import data_dir

LOADS = """
import sys
from napari_uhrseg.models.checkpoint import load_checkpoint
network = load_checkpoint(sys.argv[1])
for name in ("torch._dynamo", "sympy", "triton"):
    assert name not in sys.modules, name

# the compiler and what asks for it still work
import torch, torchvision
boxes = [torch.tensor([[0.0, 0.0, 2.0, 2.0]])]
assert torchvision.ops.roi_align(torch.ones(1, 1, 4, 4), boxes, 2).sum() == 4
import torch._dynamo
assert torch._dynamo.utils.is_compile_supported("cpu") in (True, False)
"""


@pytest.mark.slow
def test_a_checkpoint_is_loaded_without_the_compiler():
    file = next(data_dir().rglob("plain.safetensors"))
    command = [sys.executable, "-W", "ignore", "-c", LOADS, str(file)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_weights_without_memory_are_not_initialised():
    with AllocationLimit(2**20), torch.device("meta"):
        layer = nn.Linear(3, 4)
        for change in (nn.init.normal_, nn.init.kaiming_normal_, nn.init.trunc_normal_):
            assert change(layer.weight) is layer.weight
    with AllocationLimit(2**20):
        weight = nn.Linear(3, 4).weight
        assert weight.any()
        assert not torch.equal(nn.init.normal_(weight.clone()), weight)
