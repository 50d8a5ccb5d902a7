"""One run in several processes, as torchrun starts them: who writes, who waits, and how a failure ends all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from afmrl.errors import InputError

PATIENCE = timedelta(hours=24)
"""How long a process waits for the others: the first one writes attributes of a whole catalog meanwhile."""

T = TypeVar("T")

_alone = False  # whether this process works for the others, which wait: what it asks of them it does itself


class FailedElsewhere(InputError):
    """The first process failed, and has said why."""


def expected_processes() -> int:
    """How many processes the environment promises (WORLD_SIZE, set by torchrun); 1 without it."""
    value = os.environ.get("WORLD_SIZE", "1")
    if not value.isdigit() or int(value) < 1:
        raise InputError(f"the environment says WORLD_SIZE={value!r}: expected a number of processes; use torchrun")
    return int(value)


def join_processes() -> int:
    """Join the processes that torchrun started, once, and say how many there are.

    Raises:
        InputError: the environment promises several processes and this one does not find them.
    """
    expected = expected_processes()
    if expected > 1:
        missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise InputError(
                f"WORLD_SIZE={expected} but {', '.join(missing)} not set: each process would train alone; start with "
                f"torchrun --nproc_per_node {expected} -m afmrl run RECIPE"
            )
        import torch
        import torch.distributed as dist

        if not dist.is_initialized():
            backend = "gloo"
            if torch.cuda.is_available():
                backend = "cpu:gloo,cuda:nccl"  # objects and barriers wait on gloo: nccl would busy the GPU
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            dist.init_process_group(backend, timeout=PATIENCE)
    found = world_size()
    if found != expected:
        raise InputError(f"WORLD_SIZE={expected} but torch.distributed has {found} processes: start with torchrun")
    return found


def leave_processes(code: int = 0) -> None:
    """Take leave of the other processes and end this one with an exit code; returns if it is alone.

    The interpreter's own end is left out: gloo's threads let go of their last tensors when they please, need the
    interpreter for it and abort the process if it is on its way out, so that a run that had written everything
    ended as a failed one.
    """
    if world_size() == 1:
        return
    import atexit
    import sys

    import torch.distributed as dist

    if code == 0:  # after a failure the others may be waiting in a collective: torchrun ends them
        dist.destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def world_size() -> int:
    """Processes of this run."""
    return _asked("get_world_size", 1)


def rank() -> int:
    """This process' number; 0 writes files and speaks."""
    return _asked("get_rank", 0)


def _asked(name: str, alone: int) -> int:
    if expected_processes() == 1:  # and torch need not be imported
        return alone
    import torch.distributed as dist

    return int(getattr(dist, name)()) if dist.is_available() and dist.is_initialized() else alone


def on_first(work: Callable[[], Any]) -> Any:
    """`work()` of the first process, in every process; the others wait for what it returns.

    Raises:
        FailedElsewhere: in the others, if it failed there.
    """
    global _alone
    if _alone or world_size() == 1:
        return work()
    import torch
    import torch.distributed as dist

    sent: list[Any] = [None, None]
    failure: BaseException | None = None
    if rank() == 0:
        _alone = True
        try:
            sent[0] = work()
        except BaseException as error:  # sent to the others first: they would wait for ever
            failure, sent[1] = error, f"{type(error).__name__}: {error}"
        finally:
            _alone = False
    dist.broadcast_object_list(sent, src=0, device=torch.device("cpu"))
    if failure is not None:
        raise failure
    if sent[1] is not None:
        raise FailedElsewhere(sent[1])
    return sent[0]


def gathered(values: Sequence[T]) -> list[T]:
    """The values of all processes, in the processes' order; every process must ask at the same time.

    >>> gathered([0.5, 1.0])
    [0.5, 1.0]
    """
    if _alone or world_size() == 1:
        return list(values)
    import torch.distributed as dist

    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, list(values))
    return [value for part in parts for value in part]


def share(total: int, name: str) -> int:
    """This process' part of a number that all processes do together.

    Raises:
        InputError: it does not divide.
    """
    size = world_size()
    if total % size:
        raise InputError(f"{name}: {total} does not divide among {size} processes; take a multiple of {size}")
    return total // size
