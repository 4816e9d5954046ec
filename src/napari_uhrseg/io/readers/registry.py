"""Registry of image readers.

Each module of this package registers its readers with ``@register_reader(".ext")``.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from napari_uhrseg.errors import OpenError
from napari_uhrseg.io.image.image import Image
from napari_uhrseg.types import Limits

# takes a path, or a URL if the reader supports URLs; the series; and the limits
OpenFunction = Callable[[Any, int | None, Limits], Image]
F = TypeVar("F", bound=OpenFunction)
DIRECTORY = "/"  # the suffix of readers that accept any folder


class RefusedError(OpenError):
    """Error: a file is refused, and no other reader is tried."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Function that opens files with certain suffixes, and its priority for a file."""

    open: OpenFunction
    suffixes: tuple[str, ...]
    priority: Callable[[Any], float]
    title: str
    urls: bool


_readers: list[Reader] = []


def register_reader(
    *suffixes: str,
    title: str = "",
    priority: Callable[[Any], float] = lambda _: 1.0,
    urls: bool = False,
) -> Callable[[F], F]:
    """Register a function as the reader of files with these suffixes.

    Parameters
    ----------
    *suffixes
        File suffixes in lower case, with the dot; ``"/"`` stands for any folder.
    title
        Name of the file format in messages; default: the name of the function.
    priority
        Function that rates a path. The reader with the highest value opens the
        file. The next reader is tried if it fails. A reader with a value of 0 or
        less is not used.
    urls
        True if the reader also opens URLs (see `io.paths`).

    Returns
    -------
    Decorator that registers a function and returns it unchanged.
    """

    def register(function: F) -> F:
        name = title or function.__name__
        _readers.append(Reader(function, suffixes, priority, name, urls))
        return function

    return register


@cache
def readers() -> tuple[Reader, ...]:
    """Return all registered readers, without importing any format library."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
    return tuple(_readers)


def suffixes() -> tuple[str, ...]:
    """Return all supported file suffixes in alphabetical order."""
    every = {s for r in readers() for s in r.suffixes if s != DIRECTORY}
    return tuple(sorted(every))
