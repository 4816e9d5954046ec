"""napari Labels layer that reports the pixels of each stroke.

napari reports only the pixels that a stroke changed. Pixels that are painted again in
their own class belong to the stroke too. Therefore, the layer finds the footprint of
each tool in the methods that napari calls: `paint` for brush and eraser, `fill`, and
`paint_polygon`. The plugin's own tools call `preview` and `finish_preview`.

A fill finds its pixels on another thread: a large screen has 16 million, which take
0.4 s.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import numpy as np
from napari.layers import Labels as LabelsLayer

from napari_uhrseg.types import BoolMask, Labels, Roi
from napari_uhrseg.ui.workers.worker import report

Painted = Callable[[Roi, BoolMask, Labels], None]
Region = tuple[Roi, BoolMask]
Fill = tuple[int, int, int]  # row, column, new class


class PaintLayer(LabelsLayer):
    """Labels layer in memory that reports each stroke.

    Parameters
    ----------
    data
        Labels, uint8 of shape (height, width).
    painted
        Function that is called after each stroke. It takes the rectangle of the
        stroke in this layer's pixels, the mask of its pixels (bool), and their new
        class ids (uint8, 0: erased).
    undo_with, redo_with
        Functions that replace napari's undo and redo.
    filled
        Function that is called after a fill with the rectangle of its footprint.
    submit
        Function that runs a function with its arguments on another thread. Its keyword
        ``then`` takes the result and ``failed`` the error, on the Qt thread.
    **options
        Further options of the napari layer.

    Attributes
    ----------
    fills
        False while the mouse belongs to another tool: napari's bucket then has no
        effect.
    """

    _type_string = "labels"  # for napari's icons and menus

    def __init__(
        self,
        data: Labels,
        *,
        painted: Painted,
        undo_with: Callable[[], None],
        redo_with: Callable[[], None],
        filled: Callable[[Roi], None],
        submit: Callable[..., None],
        **options: Any,
    ) -> None:
        self._depth = 0
        self._spanning = False
        self._meant: BoolMask = np.zeros(data.shape, bool)
        self._box: Roi | None = None
        self._fills: deque[Fill] = deque()  # that are not complete, in order
        self._previewed: tuple[Roi, BoolMask, Labels] | None = None  # and labels before
        self.fills = True
        super().__init__(data, **options)
        self._painted, self._filled = painted, filled
        self._undo_with, self._redo_with = undo_with, redo_with
        self._submit = submit

    @property
    def stroking(self) -> bool:
        """True while a stroke or a polygon is unfinished."""
        polygon = self._overlays["polygon"]
        begun = self._spanning or self._previewed is not None
        return begun or self._depth > 0 or bool(polygon.points or self._fills)

    def undo(self) -> None:
        if not self.stroking:
            self._undo_with()

    def redo(self) -> None:
        if not self.stroking:
            self._redo_with()

    def paint(
        self, coord: Sequence[float], new_label: int, refresh: bool = True
    ) -> None:
        super().paint(coord, new_label, refresh=refresh)
        y, x = (int(np.round(c)) for c in coord)
        disk = _disk(int(self.brush_size), float(self.scale[0] / self.scale[1]))
        roi = Roi(y - disk.shape[0] // 2, x - disk.shape[1] // 2, *disk.shape)
        self._mean(roi, disk, new_label)

    def fill(
        self, coord: Sequence[float], new_label: int, refresh: bool = True
    ) -> None:
        """Fill the connected pixels of one class; those of the class are confirmed.

        Parameters
        ----------
        coord
            Row and column in this layer's pixels.
        new_label
            New class id; 0 erases.
        refresh
            Ignored: the pixels are shown when they are found.
        """
        if self.fills:
            y, x = (int(np.round(c)) for c in coord)
            self._fills.append((y, x, new_label))
            if len(self._fills) == 1:
                self._begin_fill()

    def paint_polygon(self, points: Any, new_label: int) -> None:
        from PIL import Image, ImageDraw

        super().paint_polygon(points, new_label)
        corners = np.array(points, dtype=int)[:, -2:]  # as napari rounds them
        low = np.maximum(corners.min(0), 0)
        high = np.minimum(corners.max(0) + 1, self.data.shape)
        if (low < high).all():
            height, width = (int(n) for n in high - low)
            picture = Image.new("L", (width, height))
            drawn = [(int(x), int(y)) for y, x in corners - low]
            ImageDraw.Draw(picture).polygon(drawn, outline=1, fill=1)
            roi = Roi(int(low[0]), int(low[1]), height, width)
            self._mean(roi, np.array(picture, bool), new_label)
        else:
            self._end_if_over()

    def preview(self, box: Roi, mask: BoolMask) -> None:
        """Show a region in the selected class, instead of the last previewed one.

        Parameters
        ----------
        box
            Rectangle in this layer's pixels; parts outside the layer are ignored.
        mask
            bool, of the shape of the box: the region.
        """
        self._restore()
        there = box.intersect(Roi(0, 0, *self.data.shape))
        here = self.data[there.slices]
        part = mask[there.shift(-box.y, -box.x).slices]
        label = int(self.selected_label)
        if self.preserve_labels and label:
            part = part & (here == 0)
        self._previewed = there, part, here.copy()
        here[part] = label
        self.redraw()

    def finish_preview(self) -> None:
        """Report the previewed region as a stroke."""
        if self._previewed is None:
            return
        there, mask, _ = self._previewed
        self._previewed = None
        if mask.any():
            self._painted(there, mask, mask * np.uint8(self.selected_label))

    def cancel(self) -> None:
        """Discard what is being drawn: a previewed region, a fill, a polygon."""
        self._fills.clear()
        if self._previewed is not None:
            self._restore()
            self.redraw()
        self._overlays["polygon"].points = []
        if self._overlays["brush_stroke"].active:
            self._overlays["brush_stroke"].abort(self)

    def redraw(self) -> None:
        """Show data that was changed in place."""
        self.refresh(extent=False, thumbnail=False, highlight=False)

    def _restore(self) -> None:
        if self._previewed is not None:
            box, _, before = self._previewed
            self.data[box.slices] = before
            self._previewed = None

    @contextmanager
    def block_history(self) -> Iterator[None]:
        """Combine the changes of a drag into one stroke, from press to release."""
        self._depth += 1
        try:
            with super().block_history():
                yield
        finally:
            self._depth -= 1
            self._end_if_over()

    # These methods enclose the stroke of the right mouse button, which fills at its
    # end. napari has no public names for its beginning and end. Without them, each
    # dab would be a stroke.

    def _begin_stroke(self) -> None:
        self._spanning = True
        super()._begin_stroke()

    def _commit_stroke(self) -> None:
        super()._commit_stroke()
        self._spanning = False
        self._end_if_over()

    def _abort_stroke(self) -> None:
        super()._abort_stroke()
        self._spanning = False
        self._forget()

    @property
    def _meant_here(self) -> BoolMask:
        if self._meant.shape != self.data.shape:
            self._meant = np.zeros(self.data.shape, bool)
        return self._meant

    def _mean(
        self, roi: Roi, mask: BoolMask, label: int, *, ended: bool = True
    ) -> None:
        """Add to the stroke the pixels of a mask that napari has painted."""
        there = roi.intersect(Roi(0, 0, *self.data.shape))
        if there.area:
            key = there.slices
            part = mask[there.shift(-roi.y, -roi.x).slices]
            part = part & (self.data[key] == label)
            if part.any():
                self._meant_here[key] |= part
                self._box = there.union(self._box or there)
        if ended:
            self._end_if_over()

    def _begin_fill(self) -> None:
        """Find the pixels of the next fill on another thread; skip those without."""
        while self._fills:
            fill = self._fills[0]
            if self._is_fillable(fill):
                self._submit(
                    _connected, self.data.copy(), fill[:2], self.contiguous,
                    then=partial(self._end_fill, fill, int(self.data[fill[:2]])),
                    failed=partial(self._lose_fill, fill),
                )  # fmt: skip
                return
            self._fills.popleft()
        self._end_if_over()

    def _is_fillable(self, fill: Fill) -> bool:
        y, x, label = fill
        height, width = self.data.shape
        if not (0 <= y < height and 0 <= x < width) or self._meant_here[y, x]:
            return False
        kept = self.preserve_labels and label != 0
        return not kept or int(self.data[y, x]) in (0, label)

    def _end_fill(self, fill: Fill, before: int, found: Region) -> None:
        """Fill the found pixels, except those that were painted meanwhile.

        Parameters
        ----------
        fill
            The fill that has begun.
        before
            Class of its pixels at the beginning.
        found
            Its pixels.
        """
        if not self._fills or self._fills[0] is not fill:
            return  # cancelled
        label, (box, mask) = fill[2], found
        here = self.data[box.slices]
        mask &= here == before
        here[mask] = label
        self.redraw()
        self._mean(box, mask, label, ended=False)
        self._filled(box)
        self._fills.popleft()
        self._begin_fill()

    def _lose_fill(self, fill: Fill, error: Exception) -> None:
        report(error)
        if self._fills and self._fills[0] is fill:
            self._fills.popleft()
            self._begin_fill()

    def _end_if_over(self) -> None:
        if self._depth or self._spanning or self._fills:
            return
        box = self._box
        if box is not None:
            mask = self._meant_here[box.slices].copy()
            ids = np.where(mask, self.data[box.slices], np.uint8(0))
            self._forget()
            self._painted(box, mask, ids)
        # napari's history would grow, and mean other pixels after a move
        self._reset_history()

    def _forget(self) -> None:
        if self._box is not None:
            self._meant[self._box.slices] = False
            self._box = None


def _connected(data: Labels, at: tuple[int, int], contiguous: bool) -> Region:
    """Return the pixels with the label of a point, connected ones or all.

    Parameters
    ----------
    data
        Labels, (height, width).
    at
        Row and column of the point.
    contiguous
        If True, only pixels that are connected with it by sides.

    Returns
    -------
    Roi and bool
        Rectangle around the pixels, and the pixels in it.
    """
    if contiguous:
        from skimage.segmentation import flood

        mask = np.asarray(flood(data, at, connectivity=1), bool)
    else:
        mask = data == data[at]
    box = Roi.around(mask)
    assert box is not None  # the point itself
    return box, mask[box.slices]


@lru_cache(maxsize=8)
def _disk(size: int, ratio: float) -> BoolMask:
    """Return napari's brush, a disk in world units; ``ratio`` is y by x scale."""
    scale = np.array([ratio, 1.0]) / min(ratio, 1.0)
    radius = size // 2 + 0.5
    ry, rx = np.floor(radius / scale).astype(int)
    y, x = np.ogrid[-ry : ry + 1, -rx : rx + 1]
    return np.asarray((y * scale[0]) ** 2 + (x * scale[1]) ** 2 <= radius**2)
