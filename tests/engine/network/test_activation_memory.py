"""The traced peak of a network is that of real tensors."""

import torch
from torch import Tensor, nn

from napari_uhrseg.engine.network.activation_memory import LivePeakCounter


class Upsampling(nn.Module):
    """Convolution, batch normalisation and bilinear upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3, padding=1)
        self.normalisation = nn.BatchNorm2d(5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.normalisation(self.convolution(x))
        return nn.functional.interpolate(x, (17, 29), mode="bilinear")


def test_traced_peak_of_a_training_step_is_that_of_real_tensors():
    peaks = []
    for device in ("cpu", "meta"):
        net = Upsampling().to(device)
        x = torch.zeros(2, 3, 8, 11, device=device, requires_grad=True)
        with LivePeakCounter(net) as live:
            out = net(x)
            assert out.shape == (2, 5, 17, 29)
            out.square().mean().backward()
        gradients = [x.grad, *(p.grad for p in net.parameters())]
        assert [g.shape for g in gradients] == [t.shape for t in (x, *net.parameters())]
        peaks.append(live.peak)
    assert peaks[0] == peaks[1] > 0
