"""Wait until the panel has planned, or a run has ended."""

from napari_uhrseg.ui.segment.panel import BUSY, SegmentState


def wait_for_plan(panel, qtbot):
    bar, plan = panel.segment.bar, panel.segment.plan
    plan.setText("")
    panel.segment.replan()

    def planned() -> None:
        assert panel.segment.state is SegmentState.READY, bar.status.text()
        assert bar.start.isEnabled()
        assert plan.text().startswith("Plan:"), plan.text()

    qtbot.waitUntil(planned, timeout=30_000)


def wait_for_end(panel, qtbot):
    bar = panel.segment.bar
    qtbot.waitUntil(lambda: panel.segment.state not in BUSY, timeout=60_000)
    qtbot.waitUntil(bar.start.isEnabled, timeout=30_000)
    return bar.status.text()
