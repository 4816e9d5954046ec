"""Check of Qt's return values that the types call optional."""

from typing import TypeVar

T = TypeVar("T")


def required(value: T | None) -> T:
    """Return an object that Qt always has, for example the header of a table.

    Raises
    ------
    RuntimeError
        If Qt has no such object.
    """
    if value is None:
        raise RuntimeError("Qt has no such object.")
    return value
