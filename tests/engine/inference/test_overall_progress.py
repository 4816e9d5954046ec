"""Progress of several runs as one."""

import pytest

from napari_uhrseg.engine.events import Progress
from napari_uhrseg.engine.inference.overall_progress import OverallProgress


def test_progress_is_weighted_by_pixels_and_time_left_covers_all_images():
    now = 0.0
    overall = OverallProgress([10, 30, 60], lambda: now)

    def run(seconds_left):
        nonlocal now
        for done in (0, 1, 2):
            yield Progress(done, 2, seconds_left * (2 - done) / 2)
            now += seconds_left / 3

    assert list(overall.of(0, iter([]))) == []  # it was finished before
    events = list(overall.of(1, run(30.0)))
    assert [(e.done, e.total) for e in events] == [
        (100, 1000),
        (250, 1000),
        (400, 1000),
    ]
    # at one second for each pixel, then 25 and 20 seconds for 30; 60 pixels follow
    left = [e.seconds_left for e in events]
    assert left == pytest.approx([30 + 60, 15 + 25 / 30 * 60, 20 / 30 * 60])
    last = list(overall.of(2, run(60.0)))
    assert last[-1] == Progress(1000, 1000, 0.0)
