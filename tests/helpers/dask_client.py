"""Clients of dask.distributed that give up quickly."""

import distributed
import pytest


def connect_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients give up after half a second where there is no scheduler."""

    class Impatient(distributed.Client):
        def __init__(self, address: str, **options: object) -> None:
            super().__init__(address, **options | {"timeout": 0.5})

    monkeypatch.setattr(distributed, "Client", Impatient)
