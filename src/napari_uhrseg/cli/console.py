"""Output that all commands share: consoles, errors, interruption, progress and JSON."""

import gc
import json
import logging
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from napari_uhrseg._version import __version__
from napari_uhrseg.errors import UhrSegError, without_credentials
from napari_uhrseg.main_memory import check_address_space, lacks_main_memory
from napari_uhrseg.units import format_seconds

if TYPE_CHECKING:
    from napari_uhrseg.types import LabelClass

P = ParamSpec("P")
E = TypeVar("E")

COLLECT_AFTER = 50000  # new objects until the garbage collector scans them
INTERRUPTED = 130  # exit status that a shell reports after Ctrl-C

out = Console()
err = Console(stderr=True)


def report_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command: print errors as a message and a hint, and exit with 1.

    An interrupted command exits with 130, whatever it was doing. Messages of file
    libraries are not printed.
    """

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            check_address_space()
            with _quiet_libraries():
                command(*args, **kwargs)
        except UhrSegError as error:
            _print_error(error.message, error.hint)
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            _ignore_interrupts()
            err.print(Text("Stopped.", "yellow"))
            raise typer.Exit(INTERRUPTED) from None
        except (MemoryError, RuntimeError, ImportError) as error:
            if not lacks_main_memory(error):
                raise
            _print_error(
                "There is too little main memory.",
                "Close other programs, or allow this one more memory (ulimit -v).",
            )
            raise typer.Exit(1) from error

    return run


def command_line() -> str:
    """Return the command of this process for cards, without credentials of URLs."""
    words = ["napari-uhrseg", *sys.argv[1:]]
    return shlex.join(without_credentials(word) for word in words)


def _print_error(message: str, hint: str) -> None:
    err.print(Text(message, "bold red"), soft_wrap=True)
    if hint:
        err.print(Text(hint), soft_wrap=True)


def _ignore_interrupts() -> None:
    """Ignore further interrupts until the process ends, so that its status is right.

    At the end of the process, Python restores the default action, which would kill it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def bad_parameter(option: str) -> Iterator[None]:
    """Report an error of the block as a wrong value of an option, and exit with 2."""
    try:
        yield
    except UhrSegError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _print_version(requested: bool) -> None:
    if requested:
        out.print(f"napari-uhrseg {__version__}", highlight=False)
        raise typer.Exit


def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """Open, segment and correct images that are too large to fit in memory."""
    # imports make many objects and no garbage; scanning them takes a tenth of the start
    gc.set_threshold(COLLECT_AFTER)


@contextmanager
def interruptible(
    how_to_continue: str, *, between_events: bool = False
) -> Iterator[Callable[[Iterator[Any]], Iterator[Any]]]:
    """End the block cleanly at Ctrl-C or a termination signal; exits with 130.

    Further signals are ignored, so that they do not interrupt the cleaning up. Python
    drops an interrupt that arrives while it runs a finaliser. The yielded
    function passes events through and raises such an interrupt at the next event.

    Parameters
    ----------
    how_to_continue
        Sentence that is printed after "Stopped.".
    between_events
        Interrupt only between events, so that each event is complete.

    Yields
    ------
    Callable
        Takes an iterator of events and returns one that can be interrupted.
    """
    requested = False

    def request(number: int, frame: FrameType | None) -> None:
        nonlocal requested
        if requested:
            return
        requested = True
        if not between_events:
            raise KeyboardInterrupt

    def watch(events: Iterator[Any]) -> Iterator[Any]:
        for event in events:
            if requested:
                raise KeyboardInterrupt
            yield event

    previous = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield watch
    except KeyboardInterrupt:
        requested = True
        err.print(Text(f"Stopped. {how_to_continue}", "yellow"), soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        if requested:
            _ignore_interrupts()
        else:
            for number, handler in previous.items():
                signal.signal(number, handler)


def run_events(
    events: Iterator[E],
    title: str,
    show: Callable[[E], str | None],
    *,
    json: bool,
    **record: object,
) -> E:
    """Run to the end, with a progress bar or one JSON object for each event.

    Parameters
    ----------
    events
        Events of the engine, at least one.
    title
        Text beside the progress bar.
    show
        Prints an event for users. A text that it returns replaces the title. Not
        called for ``Progress``, nor with ``json``.
    json
        Print JSON: the event's name as ``event``, and its fields.
    **record
        Further fields of each JSON object.

    Returns
    -------
    E
        The last event.
    """
    from napari_uhrseg.engine.events import Progress as Done

    last: E | None = None
    log = ProgressLog(_log_line(json))
    with progress_bar(disable=json) as bar:
        task = bar.add_task(title, total=None, left="")
        for last in events:
            if json:
                json_line(event=event_name(last), **record, **event_fields(last))
            elif isinstance(last, Done):
                left = time_left(last.seconds_left)
                bar.update(task, completed=last.done, total=last.total, left=left)
                log.report(title, f"{last.done:,} of {last.total:,}", left)
            elif (text := show(last)) is not None:
                title = text
                bar.update(task, description=text)
    assert last is not None  # the engine yields at least one event
    return last


def event_name(event: object) -> str:
    """Return the name of an event in JSON: ``block_done`` for ``BlockDone``."""
    name = type(event).__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def event_fields(event: Any) -> dict[str, object]:
    """Return the fields of an event for JSON; those of a plan stand for the plan."""
    found = {f.name: getattr(event, f.name) for f in fields(event)}
    plan = found.pop("plan", None)
    return found if plan is None else {**found, **plan_record(plan)}


def plan_record(plan: Any) -> dict[str, object]:
    """Return the fields of a plan for JSON."""
    names = (
        "windows", "left_out", "left_out_area", "computed_twice", "device", "estimate",
        "input", "warnings", "questions", "run",
    )  # fmt: skip
    return {name: getattr(plan, name) for name in names}


def progress_bar(*, disable: bool = False) -> Progress:
    """Return a bar on stderr. Its tasks have the remaining time in a field ``left``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
        console=err,
        disable=disable,
    )


@dataclass
class ProgressLog:
    """Progress as lines of a log, which replace the bar outside of a terminal.

    Parameters
    ----------
    write
        Function that writes a line.
    interval_s
        Seconds between two lines, at least 0.
    clock
        Function that returns the time in seconds.
    """

    write: Callable[[str], None]
    interval_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.clock()

    def report(self, title: str, done: str, left: str) -> None:
        """Write a line if the interval has passed since the last line.

        Parameters
        ----------
        title
            Text at the start of the line.
        done
            Finished part.
        left
            Remaining time; empty if it is unknown.
        """
        now = self.clock()
        if now - self._last >= self.interval_s:
            self._last = now
            self.write(": ".join((title, ", ".join(filter(None, (done, left))))))


def _log_line(json: bool) -> Callable[[str], None]:
    """Return the function that writes a line of progress; it may write nothing."""
    if json or err.is_terminal:
        return lambda _: None
    return lambda line: err.print(Text(line), soft_wrap=True)


def time_left(seconds: float | None) -> str:
    """Return the remaining time as a text; empty if it is unknown."""
    return "" if seconds is None else f"{format_seconds(seconds)} left"


def run_steps(steps: Iterator[Any], title: str, json: bool) -> Any:
    """Run to the end, with a progress bar or a JSON object for each percent.

    Parameters
    ----------
    steps
        Finished fractions from 0 to 1, and possibly a result at the end.
    title
        Text beside the progress bar.
    json
        Print JSON.

    Returns
    -------
    Any
        The last item.
    """
    printed, step = 0, None
    log = ProgressLog(_log_line(json))
    with progress_bar(disable=json) as bar:
        task = bar.add_task(title, total=1.0, left="")
        for step in steps:
            if not isinstance(step, float):
                continue
            bar.update(task, completed=step)
            log.report(title, f"{step:.0%}", "")
            if json and int(100 * step) > printed:
                printed = int(100 * step)
                json_line(event="progress", done=round(step, 2))
    return step


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Suppress the messages of file libraries, which the readers report."""
    import rasterio

    loggers = [logging.getLogger(n) for n in ("tifffile", "zarr", "rasterio", "pyproj")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        # in its environment, GDAL logs errors instead of printing them
        with rasterio.Env(), warnings.catch_warnings():
            if not sys.warnoptions:  # options of the user
                warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    err.print(Text(text, "yellow"), soft_wrap=True)


def swatch(label: "LabelClass", text: str | None = None) -> Text:
    """Return a square of the class's colour and a text, by default its name."""
    return Text("■ ", label.color) + Text(label.name if text is None else text, "none")


def json_line(**values: object) -> None:
    """Print one JSON object on one line of stdout and flush."""
    sys.stdout.write(json.dumps(values, default=_to_json) + "\n")
    sys.stdout.flush()


def _to_json(value: Any) -> Any:
    """Return a value that JSON has a type for: of dataclasses, NumPy numbers, paths."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    return str(value)
