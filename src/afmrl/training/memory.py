"""The C library's memory, for a process that allocates and frees large tensors all the time."""

from __future__ import annotations

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 1 GB for the next step instead of handing them back to the kernel.

    Training on a CPU otherwise spends about a tenth of its time in page faults of tensors that a moment before were
    there. Does nothing where the C library is another one.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
