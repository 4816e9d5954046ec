"""Efficient attention (Shen et al., WACV 2021)."""

from torch import Tensor, nn

from napari_uhrseg.models.blocks.common import no_autocast


class EfficientAttention(nn.Module):
    """Attention whose cost grows linearly with the number of pixels.

    Shen et al., "Efficient Attention: Attention with Linear Complexities", WACV 2021,
    with one head, and with queries that may be fewer than the keys. Keys of the
    state are the authors'. The residual is included.

    Parameters
    ----------
    inputs
        C, the channels of the features.
    keys, values
        Channels of the keys and queries, and of the values.
    """

    def __init__(self, inputs: int, keys: int, values: int) -> None:
        super().__init__()
        self.keys = nn.Conv2d(inputs, keys, 1)
        self.queries = nn.Conv2d(inputs, keys, 1)
        self.values = nn.Conv2d(inputs, values, 1)
        self.reprojection = nn.Conv2d(values, inputs, 1)

    def forward(self, source: Tensor, asking: Tensor) -> Tensor:
        """Return (N, C, h', w') attended features.

        ``source``, (N, C, h, w), gives keys and values; ``asking``, (N, C, h', w'),
        gives the queries and the residual.
        """
        keys = self.keys(source).flatten(2)
        values = self.values(source).flatten(2)
        queries = self.queries(asking).flatten(2)
        # weights of one in a million pixels are too small for 16 bits
        with no_autocast(source):
            weights = keys.float().softmax(dim=2)
            context = weights @ values.float().transpose(1, 2)  # N, keys, values
            found = context.transpose(1, 2) @ queries.float().softmax(dim=1)
        found = found.view(*found.shape[:2], *asking.shape[-2:])
        answer: Tensor = self.reprojection(found) + asking
        return answer
