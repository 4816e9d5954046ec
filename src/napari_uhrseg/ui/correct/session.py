"""Opening and closing of the corrections of the displayed labels."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning

from napari_uhrseg.ui.correct.write_queue import WriteQueue
from napari_uhrseg.ui.layers.label_layers import LabelsView

if TYPE_CHECKING:
    from napari_uhrseg.io.corrections.corrections import Corrections

    Act = Callable[[Corrections], None]


class CorrectionSessions:
    """Owner of the open corrections of each view.

    The writer's thread opens and closes the corrections. Therefore, they open after
    an earlier closing, and close after the waiting strokes.
    """

    def __init__(self, writer: WriteQueue) -> None:
        self._writer = writer
        self._waiting: dict[LabelsView, list[Act]] = {}

    @property
    def opening(self) -> bool:
        return bool(self._waiting)

    def use(
        self, view: LabelsView, act: "Act", failed: Callable[[Exception], None]
    ) -> None:
        """Call a function with the corrections of a view; open them first if needed.

        Neither function is called if `leave` is called before they are open.

        Parameters
        ----------
        view
            Labels with the corrections.
        act
            Function that takes the open corrections.
        failed
            Function that takes the error if the corrections could not be opened.
        """
        from napari_uhrseg.io.corrections.corrections import Corrections

        if view.corrections is not None:
            act(view.corrections)
            return
        if view in self._waiting:
            self._waiting[view].append(act)
            return
        self._waiting[view] = [act]

        def opened(corrections: Corrections) -> None:
            waiting = self._waiting.pop(view)
            if not waiting:
                self._writer.submit(corrections.close)
                return
            view.corrections = corrections
            if corrections.loss:
                show_warning(corrections.loss)
            for each in waiting:
                each(corrections)

        def not_opened(error: Exception) -> None:
            if self._waiting.pop(view):
                failed(error)

        self._writer.submit(
            Corrections.open, view.store, then=opened, failed=not_opened
        )

    def leave(self, view: LabelsView) -> None:
        """Close the view's corrections after the waiting strokes."""
        if view in self._waiting:
            self._waiting[view].clear()
        if view.corrections is not None:
            self._writer.submit(view.corrections.close)
            view.corrections = None
