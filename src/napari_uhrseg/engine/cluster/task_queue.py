"""Task queue of a run on a cluster: submits tasks and collects their results."""

import itertools
import queue
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_uhrseg.engine.cancellation import Cancelled, Stop
from napari_uhrseg.engine.cluster import worker
from napari_uhrseg.engine.cluster.worker import RunSpec, TaskResult
from napari_uhrseg.errors import ClusterError
from napari_uhrseg.units import formatted

if TYPE_CHECKING:
    from distributed import Client, Future

TASKS_PER_WORKER = 2  # one that runs, and one that waits
STOP_POLL_S = 0.1  # seconds between two calls of `stop`
RESULT_TIMEOUT_S = 60.0  # seconds to fetch a finished result
WORKERS_DIED = (
    "The workers that ran it died, one after another. Their logs say why. Often it is "
    "too little memory."
)
SCHEDULER_LOST = (
    "The connection to the scheduler is lost.",
    "Start it again and segment again. Finished blocks are kept.",
)


class WorkersDied(ClusterError):
    """Exception: all workers that ran a task died."""


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """Outcome of an ended task. ``lost`` is the reason if its workers died."""

    key: Any
    result: TaskResult | None
    lost: str = ""


class TaskQueue:
    """The tasks of one run that are on the cluster.

    `distributed.as_completed` does not serve here: its timeout counts from its
    creation, and ``stop`` must be polled while no task ends.

    Parameters
    ----------
    client
        Connection to the scheduler.
    spec
        The run, sent with each task.
    stop
        Polled while tasks run.
    """

    def __init__(self, client: "Client", spec: RunSpec, stop: Stop | None) -> None:
        self._client, self._spec, self._stop = client, spec, stop
        self._limits = spec.settings.limits
        self._futures: dict[Any, Future] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._workers, self._looked, self._met = 1, 0.0, time.monotonic()

    def __len__(self) -> int:
        return len(self._futures)

    def room(self) -> bool:
        """Return whether another task should be submitted."""
        self._count_workers()
        return len(self._futures) < TASKS_PER_WORKER * max(1, self._workers)

    def _count_workers(self) -> None:
        """Count the workers, if the last count is some time ago."""
        if time.monotonic() <= self._looked + self._limits.worker_poll_s:
            return
        try:
            self._workers = len(self._client.nthreads())
        except OSError as error:
            raise ClusterError(*SCHEDULER_LOST) from error
        self._looked = time.monotonic()
        if self._workers:
            self._met = self._looked

    def submit(
        self,
        key: Any,
        task: Callable[..., TaskResult | None],
        *arguments: object,
        first: bool = False,
    ) -> None:
        """Submit a task to the cluster.

        Parameters
        ----------
        key
            Identifies the task in its `TaskOutcome`.
        task
            Function of the worker module.
        *arguments
            Arguments of the function after the run.
        first
            If True, the task runs before those that wait on the cluster.
        """
        self._futures[key] = future = self._client.submit(
            task,
            self._spec,
            *arguments,
            key=f"{task.__name__}-{self._spec.token[:8]}-{next(self._numbers)}",
            pure=False,
            priority=1 if first else 0,
        )
        future.add_done_callback(lambda _: self._ended.put(key))

    def next_outcome(self) -> TaskOutcome | None:
        """Return the next task that has ended, or None if none ended in a moment.

        Raises
        ------
        Cancelled
            If ``stop()`` returned True.
        ClusterError
            If the scheduler or all workers are lost, or workers may not write.
        UhrSegError
            If a task raised it, as it would in a run on one machine.
        """
        if self._stop is not None and self._stop():
            raise Cancelled
        try:
            key = self._ended.get(timeout=STOP_POLL_S)
        except queue.Empty:
            self._check_workers()  # `room` is not asked where nothing is left to submit
            return None
        return self._outcome(key, self._futures.pop(key))

    def _check_workers(self) -> None:
        """Raise an error if the cluster has had no workers for too long."""
        self._count_workers()
        if time.monotonic() > self._met + self._limits.no_worker_s:
            raise ClusterError(
                "The cluster has had no workers for "
                f"{formatted(self._limits.no_worker_s, '.0f')} "
                "seconds.",
                "Start workers and segment again. Finished blocks are kept.",
            ) from None

    def _outcome(self, key: Any, future: "Future") -> TaskOutcome:
        try:
            result: TaskResult | None = result_or_error(future)
        except WorkersDied as error:
            return TaskOutcome(key, None, error.message)
        if result is None:  # not stopped: the worker found no token
            raise ClusterError(
                f"A worker may not write {self._spec.store} any more: another "
                "process has taken it over.",
                "Wait for that process, or segment again. Finished blocks are kept.",
            )
        return TaskOutcome(key, result)

    def close(self) -> None:
        """Cancel the tasks that wait; those that run end at their next layer."""
        with suppress(Exception):  # the scheduler may be gone
            self._client.run(worker.stop, self._spec.token, on_error="ignore")
            self._client.cancel(list(self._futures.values()))


def result_or_error(future: "Future") -> Any:
    """Return the result of a task.

    Raises
    ------
    WorkersDied
        If each worker that ran the task died.
    ClusterError, UhrSegError
        As for `TaskQueue.next_outcome`.
    """
    from distributed import KilledWorker

    try:
        return future.result(timeout=RESULT_TIMEOUT_S)
    except KilledWorker as error:
        raise WorkersDied(
            WORKERS_DIED, "Give them less to do, or more memory."
        ) from error
    except (CancelledError, OSError, TimeoutError) as error:
        raise ClusterError(*SCHEDULER_LOST) from error
    except ImportError as error:
        raise ClusterError(
            f"A worker cannot import this package: {error}.",
            "Install the same napari-uhrseg on all workers.",
        ) from error
