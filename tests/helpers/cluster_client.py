"""A client of a cluster, for a process of its own that a test kills."""

from multiprocessing.connection import Connection
from pathlib import Path

from helpers.segmentation import BUDGET, SETTINGS
from napari_uhrseg.engine.cluster.client import segment_on_cluster
from napari_uhrseg.engine.events import BlockDone
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.io.open import open_image


def segment_and_tell(
    sender: Connection, address: str, image: Path, checkpoint: Path, store: Path | str
) -> None:
    """Segment on a cluster and send the number of blocks after each of them.

    Parameters
    ----------
    sender
        Where the numbers go.
    address
        The scheduler's address.
    image, checkpoint, store
        Paths of files; the store exists.
    """
    opened = LabelStore.open(store, write=True)
    for event in segment_on_cluster(
        address, open_image(image), checkpoint, opened, SETTINGS, BUDGET
    ):
        if isinstance(event, BlockDone):
            sender.send(event.done)
