"""A head that grows keeps what the network knew."""

import pytest
import torch

from helpers.corrections import LEGEND, METHODS, checkpoint
from napari_uhrseg.engine.network.activation_memory import zero_batch
from napari_uhrseg.models.add_classes import head_parameters, with_more_classes
from napari_uhrseg.types import LabelClass, Legend

MORE = LEGEND.merged(
    Legend((LabelClass(1, "third", "#ff0000"), LabelClass(2, "fourth", "#00ff00")))
)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_added_class_keeps_logits_and_is_never_predicted(method, tmp_path):
    net = checkpoint(tmp_path, method)
    made = with_more_classes(net.model, net.card, MORE)
    assert not made.training
    frame = (128, 128) if net.card.spec.frame else None
    batch = zero_batch(net.card.spec, 2, frame)
    torch.manual_seed(1)
    batch.views.update({k: torch.randn_like(v) for k, v in batch.views.items()})
    with torch.no_grad():
        before, after = (m(batch)["logits"] for m in (net.model, made))
    assert after.shape[1] == 4
    # EHSNet's attention goes where an auxiliary head is unsure: that may move
    if method != "ehsnet":
        torch.testing.assert_close(after[:, :2], before, rtol=1e-4, atol=1e-5)
    assert (after.argmax(1) < 2).all()
    heads = head_parameters(net.card)
    assert heads
    old, new = dict(net.model.named_parameters()), dict(made.named_parameters())
    for name in set(old) - set(heads):
        assert torch.equal(old[name], new[name])


def test_with_more_classes_rejects_fewer_classes(tmp_path):
    net = checkpoint(tmp_path)
    with pytest.raises(ValueError, match="fewer"):
        with_more_classes(net.model, net.card, Legend(LEGEND.classes[:1]))
