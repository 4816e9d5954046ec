"""Progress of several runs as one progress, with the time left for all of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from napari_uhrseg.engine.events import Progress, SegmentEvent

TOTAL = 1000  # units of the progress of all images


@dataclass
class OverallProgress:
    """Progress of runs on several images, weighted by the pixels of the images.

    The time left is that of the present run, and that of the other images at the speed
    of the runs up to now. Runs that had nothing to do do not count.

    Parameters
    ----------
    pixels
        Pixels of each image; 0 for an image that cannot be opened.
    clock
        Function that returns the time in seconds.
    """

    pixels: Sequence[int]
    clock: Callable[[], float] = time.monotonic
    _seconds: float = field(default=0.0, init=False)  # of runs that are finished
    _computed: int = field(default=0, init=False)  # pixels of these runs

    def of(self, number: int, events: Iterator[SegmentEvent]) -> Iterator[SegmentEvent]:
        """Yield the events of the run of an image, with the progress of all images.

        Parameters
        ----------
        number
            Index of the image.
        events
            Events of its run.

        Yields
        ------
        SegmentEvent
            The same events; ``Progress`` counts thousandths of the work on all images.
        """
        before, after = sum(self.pixels[:number]), sum(self.pixels[number + 1 :])
        own, start, is_running = self.pixels[number], self.clock(), False
        for event in events:
            if not isinstance(event, Progress):
                yield event
                continue
            is_running = True
            share = event.done / max(event.total, 1)
            left = event.seconds_left
            if left is not None:
                seconds = self._seconds + self.clock() - start + left
                left += seconds / max(self._computed + own, 1) * after
            done = (before + share * own) / max(before + own + after, 1)
            yield Progress(round(done * TOTAL), TOTAL, left)
        if is_running:
            self._seconds += self.clock() - start
            self._computed += own
