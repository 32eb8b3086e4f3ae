"""Room on the disk that is taken while a run goes, to be given up when there is no other left.

A full disk must not cost what was paid for. When a write fails, the ballast goes, and what was in flight is written
into its place; nothing more is sent by then.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from evol.errors import CannotWrite

SIZE = 8 * 1024 * 1024  # bytes: some thousand replies
SHARE = 4  # of a small disk only one part in so many is taken
LEAST = 256 * 1024  # less would not hold what is in flight


class Ballast:
    """The file. Raises `CannotWrite` where there is no room for even the smallest one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)
        size = min(SIZE, _free(path.parent) // SHARE)
        try:
            if size < LEAST:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with path.open("wb") as file:
                _take(file.fileno(), size)
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise CannotWrite(
                f"{path.parent}: {error.strerror}: a run needs {LEAST * SHARE // 1024:,} KiB to begin with; make room, "
                "or choose another folder with --out"
            ) from error

    def give_up(self) -> bool:
        """Whether there was anything left to give up."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True

    def remove(self) -> None:
        """At the end it is not needed any more."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _free(folder: Path) -> int:
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def _take(descriptor: int, size: int) -> None:
    """Takes the room for real: a hole would not."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS
        os.write(descriptor, bytes(size))
