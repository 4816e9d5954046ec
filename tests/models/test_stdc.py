"""The truncated STDC against the authors' own code."""

import torch
from parity.fill import arrays, difference, filled, keys

from napari_uhrseg.models.blocks.stdc import TruncatedSTDC


def test_features_are_those_of_the_authors_code():
    net = TruncatedSTDC(3).eval()
    weights = filled({k: v for k, v in keys("stdc").items() if k.startswith("feat")})
    net.load_state_dict(weights)
    with torch.inference_mode():
        image = torch.from_numpy(next(iter(arrays("stdc", "input").values())))
        eighth, sixteenth = net(image)
    theirs = arrays("stdc", "output")
    assert difference(eighth[:, :64], theirs["feat8"]) < 1e-4
    assert difference(sixteenth, theirs["feat16"]) < 1e-4


def test_sides_are_rounded_up():
    eighth, sixteenth = TruncatedSTDC(6, width=4)(torch.zeros(2, 6, 101, 67))
    assert eighth.shape == (2, 32, 13, 9)
    assert sixteenth.shape == (2, 64, 7, 5)
