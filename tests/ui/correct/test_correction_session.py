"""Opening of corrections for the window."""

from dataclasses import dataclass

from napari.utils.notifications import notification_manager

from helpers.label_stores import FakeImage
from napari_uhrseg.io.corrections.corrections import Corrections
from napari_uhrseg.io.labels.store import LabelStore
from napari_uhrseg.types import LabelClass, Legend, Polygon
from napari_uhrseg.ui.correct.session import CorrectionSessions


@dataclass(eq=False)
class View:
    """Displayed labels without layers."""

    store: LabelStore
    corrections: Corrections | None = None


class Now:
    """Writer that works at once."""

    def submit(self, work, *arguments, then=None, failed=None):
        found = work(*arguments)
        if then is not None:
            then(found)


def test_loss_of_the_history_is_shown_to_the_user():
    legend = Legend((LabelClass(1, "dark", "#101010"),))
    with LabelStore.create(None, FakeImage(shape=(64, 64)), legend) as store:
        with Corrections.open(store) as corrections:
            for y in (0, 20, 40):
                square = Polygon(((y, 0), (y, 9), (y + 9, 9), (y + 9, 0)))
                list(corrections.fill(square, 1))
        (log,) = store.path.rglob("*.log")
        log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
        for shown in (1, 0):  # it is reported once
            notification_manager.records.clear()
            view, sessions = View(store), CorrectionSessions(Now())
            sessions.use(view, lambda corrections: None, print)
            texts = [n.message for n in notification_manager.records]
            assert sum("cannot be undone any more" in t for t in texts) == shown
            sessions.leave(view)
