"""Networks made ready to run, where their layers are not all in pairs."""

import torch
from torch import nn

from helpers.networks import ToyNet
from napari_uhrseg.engine.network.activation_memory import zero_batch
from napari_uhrseg.engine.network.optimize import optimized


class Shared(ToyNet):
    """Its first convolution's output goes on beside the normalised one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.second, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        for norm in (self.norm, self.other):
            norm.running_mean.fill_(0.7)

    def forward(self, batch):
        found = self.first(batch.views["local"])
        both = found + self.norm(found)
        # one normalisation for two convolutions
        return {"logits": self.other(self.second(both)) + self.other(both)}


def test_what_cannot_be_folded_stays():
    model = Shared().eval()
    ready = optimized(model, "fp32")
    assert sum(isinstance(m, nn.BatchNorm2d) for m in ready.modules()) == 2
    batch = zero_batch(model.spec)
    with torch.inference_mode():
        expected, found = (m(batch)["logits"] for m in (model, ready))
    torch.testing.assert_close(found, expected)


class Twice(ToyNet):
    """A convolution that two norms take from, and one that once goes without."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.one, self.two, self.three = (nn.BatchNorm2d(3) for _ in range(3))
        for k, norm in enumerate((self.one, self.two, self.three), start=1):
            norm.running_mean.fill_(0.3 * k)

    def forward(self, batch):
        view = batch.views["local"]
        both = self.one(self.first(view)) + self.two(self.first(view + 1))
        return {"logits": self.three(self.second(both)) + self.second(both + 1)}


def test_what_goes_to_several_places_in_several_calls_stays():
    model = Twice().eval()
    ready = optimized(model, "fp32")
    assert sum(isinstance(m, nn.BatchNorm2d) for m in ready.modules()) == 3
    batch = zero_batch(model.spec)
    with torch.inference_mode():
        expected, found = (m(batch)["logits"] for m in (model, ready))
    torch.testing.assert_close(found, expected)


class Standardised(nn.Conv2d):
    """Makes its weights' mean 0 in every pass: scaled ones would be scaled back."""

    def forward(self, x):
        weight = self.weight - self.weight.mean()
        weight = weight / weight.std()
        return nn.functional.conv2d(x, weight, self.bias, padding=1)


class Odd(ToyNet):
    """A convolution that is none of torch's own, and statistics of the batch alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = Standardised(3, 3, 3), nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 1)
        self.other = nn.BatchNorm2d(3, track_running_stats=False)
        self.norm.running_var.fill_(4.0)

    def forward(self, batch):
        found = self.norm(self.first(batch.views["local"]))
        return {"logits": self.other(self.second(found))}


def test_layers_with_arithmetic_of_their_own_stay():
    model = Odd().eval()
    batch = zero_batch(model.spec)
    batch.views["local"].normal_(generator=torch.Generator().manual_seed(0))
    for precision in ("fp32", "bf16"):
        ready = optimized(model, precision)
        assert sum(isinstance(m, nn.BatchNorm2d) for m in ready.modules()) == 2
        assert ready.first.weight.dtype == torch.float32
    with torch.inference_mode():
        expected, found = (
            m(batch)["logits"] for m in (model, optimized(model, "fp32"))
        )
    torch.testing.assert_close(found, expected)
