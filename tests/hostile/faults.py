"""A process that dies, or whose disk is full, at the n-th moment that matters to what is on disk.

Moments are: a file is made, written (half of the write is done), synced, renamed, removed, cut; a folder is made; a
model takes a step. The hooks sit in the functions of Python and of the libraries that write; what is patched is this
process, so it should be a fork.
"""

import builtins
import contextlib
import errno
import io
import os
import resource
import shutil
import signal
import sys
import threading
from pathlib import Path

KINDS = ("count", "kill", "full")


class Fault:
    """Counts the moments below a folder; from `install` on this process has the fault.

    Args:
        moment: the moment, from 1, at which it happens.
        kind: "kill": SIGKILL at that moment; "full": from that moment on nothing more can be written; "count": nothing.
        folder: files outside it do not count.
    """

    def __init__(self, moment, kind, folder):
        self.moment, self.kind, self.folder = moment, kind, os.path.realpath(folder)
        self.count, self.trail = 0, []
        self._lock = threading.RLock()

    def at(self, what, path="", *, half=None, disk=True, name=None):
        """One moment. `half` does half of what follows; without `disk` no room is needed for it."""
        with self._lock:
            self._note(what, path)
            if self.kind == "kill" and self.count == self.moment:
                if half is not None:
                    with contextlib.suppress(Exception):
                        half()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "full" and disk and self.count >= self.moment:
                if half is not None:
                    half()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([name] if name else []))

    def _note(self, what, path):
        self.count += 1
        if self.kind == "count":
            self.trail.append(f"{what} {str(path).removeprefix(self.folder)}")

    def below(self, path):
        """Whether a path, or an open file's, is below the folder."""
        with contextlib.suppress(OSError, TypeError, ValueError):
            if isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}")
            return os.path.abspath(os.fspath(path)).startswith(self.folder)
        return False

    def install(self):
        """Patch this process."""
        self._files()
        self._names()
        self._libraries()
        return self

    def _files(self):
        plain, sendfile, fsync = builtins.open, os.sendfile, os.fsync
        truncate, os_write, os_open = os.truncate, os.write, os.open

        def patched_open(file, mode="r", *rest, **options):
            if not (set(mode) & set("wax+") and self.below(file)):
                return plain(file, mode, *rest, **options)
            path = os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else str(file)
            if not isinstance(file, int):
                self.at("open", path, name=path)
            return _File(plain(file, mode, *rest, **options), self, path)

        def patched_os_open(path, flags, *rest, **options):
            if flags & os.O_CREAT and self.below(path):
                self.at("open", path, name=str(path))
            return os_open(path, flags, *rest, **options)

        builtins.open = io.open = patched_open
        os.open = patched_os_open

        def patched_sendfile(out, source, offset, count):
            size = os.fstat(source).st_size

            def half():
                sendfile(out, source, offset, max((size - (offset or 0)) // 2, 1))

            if offset is None or offset < size:
                self.at("copy", f"/proc/self/fd/{out}", half=half)
            return sendfile(out, source, offset, count)

        def patched_fsync(handle):
            if self.below(handle):
                self.at("sync", os.readlink(f"/proc/self/fd/{handle}"))
            fsync(handle)

        def patched_truncate(path, length):
            self.at("truncate", path, disk=False)
            truncate(path, length)

        def patched_write(handle, data):
            if handle > 2 and self.below(handle):
                self.at(
                    "write",
                    os.readlink(f"/proc/self/fd/{handle}"),
                    half=lambda: os_write(handle, data[: len(data) // 2]),
                )
            return os_write(handle, data)

        os.sendfile, os.fsync, os.truncate, os.write = patched_sendfile, patched_fsync, patched_truncate, patched_write

    def _names(self):
        def patch(name, *, disk, only_existing=False):
            plain = getattr(os, name)

            def patched(path, *rest, **options):
                inside = self.below(path) or options.get("dir_fd") is not None
                if inside and (not only_existing or options.get("dir_fd") is not None or os.path.lexists(path)):
                    self.at(name, path, disk=disk, name=str(path))
                return plain(path, *rest, **options)

            setattr(os, name, patched)

        for name in ("replace", "rename", "mkdir"):
            patch(name, disk=True)
        for name in ("unlink", "remove", "rmdir"):
            patch(name, disk=False, only_existing=True)

    def _libraries(self):
        """What writes by code of its own, and what a model does."""
        if "safetensors.torch" in sys.modules:
            import safetensors.torch

            safetensors.torch.serialize_file = self._opaque(safetensors.torch.serialize_file, 1, "safetensors")
        if "torch" in sys.modules:
            import torch

            torch.save = self._opaque(torch.save, 1, "torch.save")
        for module, kind, method in (
            ("transformers", "Trainer", "training_step"),
            ("sentence_transformers", "SentenceTransformer", "encode"),
            ("afmrl.generator.generator", "AttributeGenerator", "generate"),
        ):
            if module in sys.modules:
                self._step(getattr(sys.modules[module], kind), method)

    def _step(self, kind, method):
        plain = getattr(kind, method)

        def patched(*arguments, **options):
            self.at("step", method, disk=False)
            return plain(*arguments, **options)

        setattr(kind, method, patched)

    def _opaque(self, write, place, what):
        """A function that writes a file by itself: before, half of it, and after; on a full disk it fails by itself."""

        def patched(*arguments, **options):
            path = arguments[place] if len(arguments) > place else options.get("f", options.get("filename"))
            if not isinstance(path, (str, Path)) or not self.below(path):
                return write(*arguments, **options)

            def half():
                write(*arguments, **options)
                os.truncate(path, os.path.getsize(path) // 2)

            self.at(f"before {what}", path, disk=False)
            self._note(f"half of {what}", path)
            if self.kind == "kill" and self.count == self.moment:
                half()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "full" and self.count >= self.moment:
                limits = resource.getrlimit(resource.RLIMIT_FSIZE)
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
                try:
                    return write(*arguments, **options)
                finally:
                    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            result = write(*arguments, **options)
            self.at(f"after {what}", path, disk=False)
            return result

        return patched


class _File:
    """An open file whose writes are moments."""

    def __init__(self, file, fault, path):
        self._file, self._fault, self._path = file, fault, path
        self._waiting = False  # whether something is not yet flushed, which may find no room

    def write(self, data):
        half = data[: len(data) // 2] if isinstance(data, str) else memoryview(data).cast("B")[: len(data) // 2]

        def torn():
            self._file.write(half)
            self._file.flush()

        self._fault.at("write", self._path, half=torn)
        self._waiting = True
        return self._file.write(data)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def truncate(self, *size):
        self._fault.at("truncate", self._path, disk=False)
        return self._file.truncate(*size)

    def flush(self):
        if not self._file.closed:
            self._fault.at("flush", self._path, disk=self._waiting)
            self._file.flush()
            self._waiting = False

    def close(self):
        if not self._file.closed:
            try:
                self._fault.at("close", self._path, disk=self._waiting)
            finally:
                self._file.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __iter__(self):
        return iter(self._file)

    def __next__(self):
        return next(self._file)

    def __getattr__(self, name):
        return getattr(self._file, name)


def forked(work, log):
    """Do `work()` in a fork, its output in the file `log`; returns its exit code (negative: the signal)."""
    return ended(started(work, log))


def ended(child):
    """The exit code of a fork that `started` began."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def started(work, log):
    """A fork that does `work()`, its output in the file `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        code = 1
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            sys.stdout, sys.stderr = (
                io.TextIOWrapper(io.FileIO(n, "w", closefd=False), write_through=True) for n in (1, 2)
            )
            try:
                work()
                code = 0
            except SystemExit as end:
                code = end.code or 0
            except BaseException:
                import traceback

                traceback.print_exc()
        finally:
            os._exit(code)
    return child


def copied(start, folder):
    """The folder as it was at the start: a copy of `start`, or nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    if start is not None:
        shutil.copytree(start, folder)
    else:
        Path(folder).mkdir(parents=True)
