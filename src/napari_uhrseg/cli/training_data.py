"""Data of ``train``: images and masks, or corrections in label stores."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_uhrseg.cli.label_stores import StoreImagesOption, open_pairs, paired
from napari_uhrseg.cli.shared_options import ClassesFileOption, IgnoreOption

if TYPE_CHECKING:
    from napari_uhrseg.engine.data.scenes import SceneDataset


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOptions:
    """Images and masks to train on."""

    stores: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STORE]...",
            help="Label stores, whose corrections are trained on: OME-Zarr folders or "
            "their URLs. Otherwise, give --images and --masks.",
            show_default=False,
        ),
    ] = None
    image: StoreImagesOption = None
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of images, or an image. May be repeated."),
    ] = None
    masks: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of masks with the images' file stems, or a mask. May be "
            "repeated. Pixels are class numbers or colours."
        ),
    ] = None
    classes: ClassesFileOption = None
    ignore: IgnoreOption = None
    validate: Annotated[
        str | None,
        typer.Option(
            help="Validation scenes: a fraction such as 0.2, or file stems a,b,c (of "
            "label stores: names of images). 0: none. Default: 0.2."
        ),
    ] = None
    balance: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Fraction of windows sampled evenly over the classes, which favours "
            "rare classes. Default: 0; of label stores 1.",
        ),
    ] = None

    def read(self, seed: int, cache: int | None, stack: ExitStack) -> "SceneDataset":
        """Return the dataset.

        Parameters
        ----------
        seed
            Seed that selects the validation scenes.
        cache
            Largest size of decoded scenes in bytes; ``None``: the default.
        stack
            Stack that closes the label stores.

        Raises
        ------
        typer.BadParameter
            If neither label stores nor images and masks are given, or both.
        """
        found = (
            self._corrections(seed, stack)
            if self.stores
            else self._folders(seed, cache)
        )
        return found if self.balance is None else found.with_class_balance(self.balance)

    @property
    def name(self) -> str:
        """Name of the data on the card."""
        if self.stores:
            return "corrections"
        return ", ".join(path.name for path in self.images or ())

    def _corrections(self, seed: int, stack: ExitStack) -> "SceneDataset":
        """Return the corrections of label stores."""
        from napari_uhrseg.engine.data.corrected_images import corrected_images

        others = (self.images, self.masks, self.classes, self.ignore)
        if any(option is not None for option in others):
            raise typer.BadParameter(
                "Give either label stores, or --images and --masks with --classes and "
                "--ignore. Label stores have classes."
            )
        images, stores = open_pairs(paired(self.stores or (), self.image))
        for store in stores:
            stack.enter_context(store)
        return corrected_images(images, stores, parse_validate(self.validate), seed)

    def _folders(self, seed: int, cache: int | None) -> "SceneDataset":
        """Return the images and masks of folders."""
        from napari_uhrseg.engine.data.folder_dataset import FolderDataset
        from napari_uhrseg.engine.data.mask_legend import read_classes
        from napari_uhrseg.engine.data.scenes import SCENE_CACHE

        if not self.images or not self.masks or self.image:
            raise typer.BadParameter(
                "Give label stores (with --image if needed), or --images and --masks."
            )
        legend = None if self.classes is None else read_classes(self.classes)
        return FolderDataset(
            self.images,
            self.masks,
            legend,
            self.ignore or None,
            held_out=parse_validate(self.validate),
            seed=seed,
            cache=SCENE_CACHE if cache is None else min(SCENE_CACHE, cache),
        )


def parse_validate(text: str | None) -> float | tuple[str, ...]:
    """Return a fraction from 0 to 1, or file stems; a fifth if nothing is given."""
    if text is None:
        return 0.2
    try:
        share = float(text)
    except ValueError:
        share = -1
    # a scene may be named 3, but 3 is not a fraction
    return share if text == "0" or 0 < share < 1 else tuple(text.split(","))
