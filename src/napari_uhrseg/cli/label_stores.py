"""Label stores of several images, which ``finetune`` and ``train`` take."""

from typing import TYPE_CHECKING, Annotated

import typer

from napari_uhrseg.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.paths import PathOrUrl

StoreImagesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        help="Image file or URL, once for each store in their order. Default: the "
        "paths in the label stores. A URL in a store must be given, unless the "
        "store is on the same server.",
    ),
]


def paired(
    stores: "Sequence[str]", images: "Sequence[str] | None"
) -> "list[tuple[str, str | None]]":
    """Return each label store with the image given for it, or None.

    Raises
    ------
    typer.BadParameter
        If images are given, but not as many as label stores.
    """
    if images and len(images) != len(stores):
        raise typer.BadParameter(
            f"Give --image once for each label store; {len(stores)} are given."
        )
    own: list[str | None] = [*images] if images else [None for _ in stores]
    return list(zip(stores, own, strict=True))


def open_pairs(
    pairs: "Sequence[tuple[str | PathOrUrl, str | PathOrUrl | None]]",
) -> "tuple[list[Image], list[LabelStore]]":
    """Open the images and the labels.

    Parameters
    ----------
    pairs
        Label stores and their images; an image that is None has the path in the store.
    """
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.open import open_image

    images, stores = [], []
    for store, image in pairs:
        labels = LabelStore.open(store)
        images.append(open_image(image or _image_path(labels, str(store))))
        stores.append(labels)
    return images, stores


def _image_path(labels: "LabelStore", store: str) -> "PathOrUrl":
    """Return the stored path of the image; a URL on another server is refused."""
    from napari_uhrseg.io.paths import on_another_server

    path = labels.image_path
    if path is None:
        raise StoreError(
            f"{store} does not contain the path of its image.",
            "Give the path with --image.",
        )
    if on_another_server(path, labels.path):
        raise StoreError(
            f"{store} names its image by a URL, which is not opened unasked: {path}.",
            f"If you trust the labels, give the image: --image {path}",
        )
    return path
