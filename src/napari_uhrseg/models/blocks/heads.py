"""Classifiers that several methods share."""

from timm.layers import ConvNormAct
from torch import nn


def auxiliary_head(inputs: int, width: int, classes: int) -> nn.Sequential:
    """(N, inputs, h, w) to logits (N, classes, h, w), as mmsegmentation's FCN head."""
    return nn.Sequential(
        ConvNormAct(inputs, width, 3), nn.Dropout2d(0.1), nn.Conv2d(width, classes, 1)
    )
