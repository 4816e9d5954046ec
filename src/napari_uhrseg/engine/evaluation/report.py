"""Reports of scores as files: a table (CSV or text) and a picture (PNG)."""

import csv
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_uhrseg.engine.evaluation.area_weighted import AreaWeightedAccuracy
from napari_uhrseg.engine.evaluation.metrics import Scores
from napari_uhrseg.errors import ExportError
from napari_uhrseg.io.export import atomic_target

CELL, MARGIN, FONT, LONGEST = 72, 10, 14, 24  # px; characters of a name in the picture
DARK = np.array([31, 111, 178])  # colour of a share of 1
INDEPENDENT = (
    "The intervals take labelled pixels as independent samples. They are too narrow if "
    "these pixels are neighbours."
)


def write_report(scores: Scores, path: Path | str, *, overwrite: bool = False) -> None:
    """Write the confusion matrix and the accuracies of scores to a file.

    Parameters
    ----------
    scores
        The scores.
    path
        File that ends in ``.csv``, ``.txt`` or ``.png``.
    overwrite
        If True, an existing file is replaced.

    Raises
    ------
    ExportError
        If the suffix is another one, or the file exists or cannot be written.
    """
    target = Path(path).absolute()
    write = check_report(target)
    with atomic_target(target, overwrite=overwrite) as building:
        write(scores, building)


def check_report(path: Path) -> Callable[[Scores, Path], None]:
    """Return the writer of a file. Raises ExportError for other suffixes."""
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise ExportError(
            f"{path.name} does not end in {', '.join(WRITERS)}; nothing was written.",
            "Choose a name with one of these suffixes.",
        )
    return WRITERS[suffix]


def report_rows(scores: Scores) -> list[list[str]]:
    """Return the table of a report, with the column names first.

    There is a row for each class of the map, and one for the whole.
    """
    found = scores.area_weighted()
    matrix = scores.counts.T  # of the map class in the row
    names = ("mapped_share", "users_accuracy", "users_margin", "producers_accuracy",
             "producers_margin", "area_share", "area_margin", "iou", "f1")  # fmt: skip
    mapped = scores.mapped / max(1, scores.mapped.sum())
    columns = (
        mapped, found.users.value, found.users.margin, found.producers.value,
        found.producers.margin, found.area.value, found.area.margin, scores.iou,
        scores.f1,
    )  # fmt: skip
    rows = [["mapped_as", *(f"reference_{n}" for n in scores.names), *names]]
    for i, name in enumerate(scores.names):
        values = [_number(column[i]) for column in columns]
        rows.append([name, *(str(count) for count in matrix[i].tolist()), *values])
    overall = [_number(float(v)) for v in (found.overall.value, found.overall.margin)]
    sums = [str(count) for count in matrix.sum(0).tolist()]
    rest = [""] * (len(names) - 3)
    rows.append(["overall accuracy", *sums, "", *overall, *rest])
    return rows


def summary(found: AreaWeightedAccuracy) -> str:
    """Return the overall accuracy as a sentence, with what was left out."""
    if np.isnan(found.overall.value):
        return "The area-weighted accuracy is unknown: no class has two samples."
    text = (
        f"Area-weighted overall accuracy: {found.overall.value:.1%} ± "
        f"{found.overall.margin:.1%} (95 % interval)."
    )
    if found.left_out:
        text += f" Without reference pixels and left out: {', '.join(found.left_out)}."
    return text


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"


def _write_csv(scores: Scores, path: Path) -> None:
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(report_rows(scores))
    path.write_text(text.getvalue(), encoding="utf-8")


def _write_text(scores: Scores, path: Path) -> None:
    rows = report_rows(scores)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    notes = ["", summary(scores.area_weighted()), INDEPENDENT]
    path.write_text("\n".join([*lines, *notes]) + "\n", encoding="utf-8")


def _write_picture(scores: Scores, path: Path) -> None:
    """Draw the matrix, with the share of each map class as the colour of its row."""
    names = [_short(name) for name in scores.names]
    font = ImageFont.load_default(FONT)
    wide = max(int(font.getlength(name)) for name in names) + 2 * MARGIN
    left, side = wide + 2 * FONT, CELL * len(names)
    picture = Image.new("RGB", (left + side + MARGIN, left + side + MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    matrix = scores.counts.T
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    for (i, j), value in np.ndenumerate(share):
        x, y = left + CELL * j, left + CELL * i
        color = tuple(int(c) for c in 255 + (DARK - 255) * value)
        draw.rectangle((x, y, x + CELL, y + CELL), fill=color, outline="#808080")
        ink = "white" if value > 0.5 else "black"
        middle = x + CELL // 2, y + CELL // 2
        draw.text(middle, f"{value:.1%}", ink, font, anchor="mm")
    for i, name in enumerate(names):
        at = left + CELL * i + CELL // 2
        draw.text((left - MARGIN, at), name, "black", font, anchor="rm")
        _draw_upright(picture, name, (at, left - MARGIN), font)
    draw.text((left + side // 2, MARGIN), "Reference", "black", font, anchor="mt")
    _draw_upright(picture, "Map", (MARGIN + FONT // 2, left + side // 2), font)
    picture.save(path, format="PNG")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _draw_upright(
    picture: Image.Image,
    text: str,
    at: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Draw a text from bottom to top that ends above a point (x, y)."""
    box = Image.new("L", (int(font.getlength(text)) + 2, FONT + 6), 0)
    ImageDraw.Draw(box).text((0, 0), text, 255, font)
    turned = box.transpose(Image.Transpose.ROTATE_90)
    x, y = at
    place = x - turned.width // 2, y - turned.height
    picture.paste(Image.new("RGB", turned.size, "black"), place, turned)


WRITERS: Mapping[str, Callable[[Scores, Path], None]] = {
    ".csv": _write_csv,
    ".txt": _write_text,
    ".png": _write_picture,
}
