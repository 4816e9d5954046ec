"""Images of a project that are opened together with their label stores."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.io.open import open_image
from napari_uhrseg.io.project.image_paths import ProjectPaths
from napari_uhrseg.io.project.project import ProjectImage

if TYPE_CHECKING:  # it loads zarr, which would delay the window
    from napari_uhrseg.io.labels.store import LabelStore


@dataclass(frozen=True, slots=True)
class OpenedLabels:
    """Open images and label stores of a project.

    Attributes
    ----------
    images, stores
        The images, and the label store of each in the same order.
    failed
        Path of each image that could not be opened to the reason.
    """

    images: tuple[Image, ...]
    stores: "tuple[LabelStore, ...]"
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProjectLabels:
    """Images of a project with their label stores.

    Parameters
    ----------
    paths
        The rules to find the files of the project.
    images
        The images.
    listed
        Paths of all images of the project.
    """

    paths: ProjectPaths
    images: tuple[ProjectImage, ...]
    listed: frozenset[str]

    def open(self, image: ProjectImage, stack: ExitStack) -> "tuple[Image, LabelStore]":
        """Open an image and its labels, which the stack closes.

        Raises
        ------
        UhrSegError
            If one of them is missing or cannot be read.
        """
        from napari_uhrseg.io.labels.store import LabelStore

        opened = open_image(self.paths.image(image.path, self.listed))
        store = LabelStore.open(self.paths.resolve(image.labels))
        return opened, stack.enter_context(store)

    def open_all(self, stack: ExitStack) -> OpenedLabels:
        """Open all images and their labels, which the stack closes.

        Images that cannot be opened are left out.

        Raises
        ------
        UhrSegError
            If no image can be opened.
        """
        opened, failed = [], {}
        for image in self.images:
            try:
                opened.append(self.open(image, stack))
            except UhrSegError as error:
                failed[image.path] = str(error)
                if len(failed) == len(self.images):
                    raise
        images, stores = zip(*opened, strict=True) if opened else ((), ())
        return OpenedLabels(images, stores, failed)
