"""A bulk job's work on a Ray cluster: workers hold the models, this process reads the catalog and writes the shards.

Ray's actors, not Ray Data: Ray Data's checkpoint filters a data set by an id column, so a changed row would never be
done again, and it writes its own files in its own order. Here the shards, the order and the journal are those of one
machine, and a run may change between the engines on the way.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

from afmrl.bulk.work import Task, TaskResult, Work, WorkDescription
from afmrl.errors import InputError

TASKS_AHEAD = 2
"""Tasks that each worker holds, so that it never waits for this process."""
RETRIES = 3
"""Times that a task is given out again when its worker died."""


class RayWork:
    """Does tasks on the workers of a cluster: that of RAY_ADDRESS, otherwise one on this machine.

    Models, images and archives must be found under the same paths on every node. A worker that dies is started
    again, and its tasks with it.

    Args:
        load: makes the work; every worker calls it.
        workers: None: one a GPU, or one for two CPUs if there is none.

    Raises:
        InputError: ray is not installed, no such cluster, or a model that does not load.
    """

    def __init__(self, load: Callable[[], Work], *, workers: int | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise InputError('--engine ray needs ray: pip install "afmrl[ray]"')
        ray: Any = importlib.import_module("ray")
        self._started = not ray.is_initialized()
        if self._started:
            try:
                ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise InputError(f"ray: no cluster ({error}); see RAY_ADDRESS") from error
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), resources.get("CPU", 1.0)
        count = workers or gpus or max(int(cpus) // 2, 1)
        share = min(cpus / count, _largest_node(ray))
        # whole CPUs where there are enough: a fraction cannot be split over nodes
        actor = ray.remote(
            num_cpus=int(share) if share >= 1 else share,
            num_gpus=min(gpus / count, 1) if gpus else 0,
            max_restarts=-1,
            max_task_retries=RETRIES,
        )(_Worker)
        self._workers = [actor.remote(load) for _ in range(count)]
        try:
            self._description: WorkDescription = self._get(self._workers[0].describe.remote())
        except BaseException:
            self.close()
            raise

    def describe(self) -> WorkDescription:
        """What this work is."""
        return self._description

    def run(self, tasks: Iterable[Task]) -> Iterator[TaskResult]:
        """Do the tasks; the results come in their order."""
        ray: Any = importlib.import_module("ray")
        given = iter(tasks)
        order: deque[tuple[Any, Task]] = deque()
        busy: dict[Any, int] = {}  # running task -> its worker
        try:
            while True:
                while len(order) < TASKS_AHEAD * len(self._workers) and (task := next(given, None)) is not None:
                    worker = min(range(len(self._workers)), key=list(busy.values()).count)
                    result = self._workers[worker].make.remote(task)
                    busy[result] = worker
                    order.append((result, task))
                if not order:
                    return
                done, _ = ray.wait(list(busy), num_returns=1, fetch_local=False) if busy else ([], [])
                for result in done:
                    del busy[result]
                while order and order[0][0] not in busy:
                    result, task = order.popleft()
                    yield self._get(result, task)
        finally:
            self.close()

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        ray: Any = importlib.import_module("ray")
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []
        if self._started:
            ray.shutdown()

    def _get(self, result: Any, task: Task | None = None) -> Any:
        ray: Any = importlib.import_module("ray")
        try:
            return ray.get(result)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from error
            raise
        except ray.exceptions.RayActorError as error:
            rows = f"on rows {task.rows[0]} to {task.rows[-1]}" if task else "while it loaded the models"
            raise InputError(
                f"ray: a worker died {RETRIES + 1} times {rows}; its memory may be too small: give a smaller "
                f"--batch-size or fewer --ray-workers ({str(error).splitlines()[0][:200]})"
            ) from error


class _Worker:
    """Holds the models in a process of its own; loads them when first asked, so that an error comes as an answer."""

    def __init__(self, load: Callable[[], Work]) -> None:
        self._load = load

    @cached_property
    def work(self) -> Work:
        from afmrl.terminal import quiet_libraries

        quiet_libraries()
        return self._load()

    def describe(self) -> WorkDescription:
        return self.work.describe()

    def make(self, task: Task) -> TaskResult:
        (made,) = self.work.run([task])
        return made


def _largest_node(ray: Any) -> float:
    return max((node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]), default=1.0)
