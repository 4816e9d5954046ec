"""Number keys that choose a class by its row in the list of classes."""

import time
from collections.abc import Callable

PAUSE_S = 0.8  # longest time between two digits of one number


class ClassKeys:
    """Digits of the keyboard as numbers of rows: 0 is the eraser, 12 is 1 and then 2.

    The first digit has an effect at once. A second one within 0.8 seconds makes a
    number of two digits, if there are so many classes.

    Parameters
    ----------
    clock
        Function that returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last, self._at = 0, float("-inf")

    def press(self, digit: int, count: int) -> int | None:
        """Return the row that a digit chooses, from 1.

        Parameters
        ----------
        digit
            The digit, 0 to 9.
        count
            Number of classes.

        Returns
        -------
        int or None
            0 for the eraser; None if there is no such row.
        """
        now = self._clock()
        number = 10 * self._last + digit
        joined = self._last > 0 and now - self._at <= PAUSE_S and number <= count
        row = number if joined else digit
        self._last, self._at = (0 if joined else digit), now
        return row if row <= count else None
