"""What all commands share: two consoles, errors in words, a clean stop, JSON lines."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from napari_uhrseg._version import __version__
from napari_uhrseg.errors import UhrSegError
from napari_uhrseg.units import format_seconds

P = ParamSpec("P")

STOPPED = 130  # what a shell reports after Ctrl-C

out = Console()
err = Console(stderr=True)


def told(command: Callable[P, None]) -> Callable[P, None]:
    """The command, saying our own errors in one red line and a hint; exits with 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except UhrSegError as error:
            err.print(Text(error.message, "bold red"), soft_wrap=True)
            if error.hint:
                err.print(Text(error.hint), soft_wrap=True)
            raise typer.Exit(1) from error

    return run


def _say_version(asked: bool) -> None:
    if asked:
        out.print(f"napari-uhrseg {__version__}", highlight=False)
        raise typer.Exit


def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Say the version.", is_eager=True, callback=_say_version
        ),
    ] = False,
) -> None:
    """Open, segment and correct images too large for everything else."""


@contextmanager
def stoppable(
    how_to_go_on: str, *, gently: bool = False
) -> Iterator[Callable[[Iterator[Any]], Iterator[Any]]]:
    """Ctrl-C and a termination signal end the block cleanly, saying how to go on.

    Gives a function to pass events through: Python drops an interrupt that comes
    while it runs a finaliser, and the next event then ends the block after all.
    ``gently``: only between events, so that none is left half done.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        if not gently:
            raise KeyboardInterrupt

    def watched(events: Iterator[Any]) -> Iterator[Any]:
        for event in events:
            if asked:
                raise KeyboardInterrupt
            yield event

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield watched
    except KeyboardInterrupt:
        err.print(Text(f"Stopped. {how_to_go_on}", "yellow"), soft_wrap=True)
        raise typer.Exit(STOPPED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def progress_bar() -> Progress:
    """A bar on stderr whose tasks say the time left in a field ``left``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
        console=err,
    )


def time_left(seconds: float | None) -> str:
    return "" if seconds is None else f"{format_seconds(seconds)} left"


def follow(parts: Iterator[Any], title: str, json: bool) -> Any:
    """Run to the end, with a bar or lines of JSON at each percent; the last part."""
    told, done = 0, None
    with progress_bar() as bar:
        bar.disable = json
        task = bar.add_task(title, total=1.0, left="")
        for done in parts:
            if not isinstance(done, float):
                continue
            bar.update(task, completed=done)
            if json and int(100 * done) > told:
                told = int(100 * done)
                json_line(event="progress", done=round(done, 2))
    return done


def json_line(**values: object) -> None:
    """One object on one line of stdout, at once."""
    sys.stdout.write(json.dumps(values, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    """What JSON has no word for: our values, numpy's numbers, paths."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    return str(value)
