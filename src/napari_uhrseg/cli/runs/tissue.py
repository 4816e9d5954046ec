"""``napari-uhrseg tissue``: detect tissue, and the options of it that runs share."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_uhrseg.cli.console import bad_parameter, err, json_line, out
from napari_uhrseg.cli.shared_options import (
    JsonOption,
    OverwriteOption,
    check_area,
    expand_options,
)
from napari_uhrseg.errors import StoreError
from napari_uhrseg.io.paths import to_path
from napari_uhrseg.types import AreaSize, TissueSettings

if TYPE_CHECKING:
    from napari_uhrseg.io.image.image import Image
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.paths import PathOrUrl
    from napari_uhrseg.types import TissueMask

AREA = "AREA"


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueOptions:
    """Settings of the detection of tissue."""

    tissue_saturation: Annotated[
        float | None,
        typer.Option(
            min=0, max=1,
            help="Least saturation of tissue, 0 to 1. Default: by Otsu's method.",
        ),
    ] = None  # fmt: skip
    tissue_density: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Least optical density of tissue. Default: by Otsu's method.",
        ),
    ] = None
    tissue_piece: Annotated[
        str | None,
        typer.Option(
            metavar=AREA, callback=check_area,
            help="Remove smaller pieces, for example '10000 um2', '0.1 mm2' or 40000 "
            "(pixels). Default: 10000 um2, or 40000 pixels without a pixel size.",
        ),
    ] = None  # fmt: skip
    tissue_hole: Annotated[
        str | None,
        typer.Option(
            metavar=AREA, callback=check_area,
            help="Fill smaller holes. Default: as for --tissue-piece.",
        ),
    ] = None  # fmt: skip
    tissue_smoothing: Annotated[
        float,
        typer.Option(
            min=0,
            help="Standard deviation of the smoothing before the threshold, in pixels.",
        ),
    ] = 8.0

    def detection(self) -> TissueSettings:
        """Return the settings of these options."""
        piece, hole = (
            None if text is None else AreaSize.parse(text)
            for text in (self.tissue_piece, self.tissue_hole)
        )
        return TissueSettings(
            self.tissue_saturation,
            self.tissue_density,
            piece,
            hole,
            self.tissue_smoothing,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTissue(TissueOptions):
    """Use of a tissue mask by a run, and its detection."""

    tissue: Annotated[
        bool,
        typer.Option(
            "--tissue",
            help="Label only tissue; windows without tissue do not run. The mask of "
            "the labels is used if they have one; otherwise tissue is detected.",
        ),
    ] = False

    def __post_init__(self) -> None:
        if not self.tissue and self.detection() != TissueSettings():
            raise typer.BadParameter("Settings of the tissue need --tissue.")

    def mask(
        self, image: "Image", store: "PathOrUrl", *, replace: bool
    ) -> "TissueMask | None":
        """Return the tissue mask of a run; None for a run without one.

        Parameters
        ----------
        image
            The image to segment.
        store
            Path of its labels, which need not exist.
        replace
            If True, a mask of other settings may be replaced.

        Raises
        ------
        StoreError
            If the labels have a mask of other settings, and ``replace`` is False.
        """
        if not self.tissue:
            return None
        from napari_uhrseg.io.tissue.detect import detect_tissue
        from napari_uhrseg.io.tissue.stored_mask import read_tissue

        kept, settings = read_tissue(store, image.shape), self.detection()
        if kept is not None and settings in (TissueSettings(), kept.settings):
            return kept
        with err.status("Detecting tissue"):
            mask = detect_tissue(image, settings)
        if kept is not None and kept != mask and not replace:
            raise StoreError(
                f"{store} has another tissue mask ({kept.source or 'of unknown origin'}"
                ").",
                "Omit the settings of the tissue to use it, or allow replacing it "
                "(--replace).",
            )
        return mask


@expand_options
def tissue(
    image: Annotated[str, typer.Argument(help="Image or its URL.")],
    options: TissueOptions,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Existing label store of the image that gets the mask. It replaces "
            "another mask.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write: polygons in pixels (.geojson), or the mask as a "
            "picture (.png)."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
) -> None:
    """Detect the tissue of an image, at no more than 2048 pixels a side.

    A pixel is tissue if its saturation or its optical density reaches a threshold.
    ``segment --tissue`` labels only tissue.
    """
    from napari_uhrseg.io.export import atomic_target
    from napari_uhrseg.io.labels.store import LabelStore
    from napari_uhrseg.io.open import open_image
    from napari_uhrseg.io.tissue.detect import count_pieces, detect_tissue
    from napari_uhrseg.io.tissue.export_mask import check_suffix, write_mask
    from napari_uhrseg.io.tissue.stored_mask import write_tissue

    if output is not None:
        with bad_parameter("--output"):
            check_suffix(output)
    opened = open_image(image)
    with (
        nullcontext()
        if output is None
        else atomic_target(output.absolute(), overwrite=overwrite) as building,
        nullcontext()
        if labels is None
        else LabelStore.open(to_path(labels), write=True) as store,
    ):
        _check_size(store, opened)
        with err.status("Detecting tissue"):
            mask = detect_tissue(opened, options.detection())
        if building is not None:
            write_mask(mask, building)
        if store is not None:
            write_tissue(store, mask)
    pieces = count_pieces(mask)
    if json:
        json_line(
            event="tissue", image=image, share=mask.share, pieces=pieces,
            thresholds=mask.source, pixel=mask.factor, output=output, labels=labels,
        )  # fmt: skip
    else:
        _print(mask, pieces, (output, labels))


def _print(
    mask: "TissueMask", pieces: int, paths: tuple[Path | str | None, ...]
) -> None:
    lines = [
        f"Tissue: {mask.share:.1%} of the image in {pieces} pieces",
        f"Thresholds: {mask.source}",
        f"One pixel of the mask: {mask.factor} x {mask.factor} pixels",
    ]
    lines += [f"Mask: {path}" for path in paths if path is not None]
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True)


def _check_size(store: "LabelStore | None", image: "Image") -> None:
    if store is not None and store.shape != image.shape:
        raise StoreError(
            f"The labels are of an image of {store.shape[1]} x {store.shape[0]} "
            "pixels.",
            "Choose the labels of this image.",
        )
