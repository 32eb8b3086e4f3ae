"""The one error tree, split by what the caller does about it.

    EvolError                    the run stops; the command line prints one line and exits with `exit_code`
    ├── UsageError          2    options that cannot be
    ├── SeedError           1    a seed file that cannot be read
    ├── TemplateError       1    a template pack that must not be used
    ├── DriftError          1    the run's folder was made with other templates, models or parameters
    ├── JournalDamaged      1    the journal holds something that was not written like that
    ├── RunMissing          1    a folder without a run in it
    ├── FolderInUse         3    another process is at work in the run's folder
    ├── CannotWrite         4    the disk refuses
    ├── TeacherError        5    the teacher refuses or is unreachable: no further call makes sense
    ├── BudgetReached       6    no further call would stay within what may be spent
    └── Interrupted       130    the user stopped it
    CallFailed                   one call failed; it never leaves `ask.py`
    ├── Unavailable              no reply: retried
    │   └── TimedOut             no reply in time, or none to its end: retried, and the teacher may be overloaded
    ├── AskAgain                 the server takes it in another form, which is what the next try is sent in
    ├── RateLimited              the teacher asks to wait: retried, and not counted as a try
    ├── BadReply                 a reply that is no use: retried
    └── RequestRefused           this request will never be answered: its row is given up
        └── DoesNotFit           the context is too small for it, which is no fault of the teacher's

Only the command line catches `EvolError`. A row that falls is not an error but a record with a reason.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AskAgain",
    "BadReply",
    "BudgetReached",
    "CallFailed",
    "CannotWrite",
    "DoesNotFit",
    "DriftError",
    "EvolError",
    "FolderInUse",
    "Interrupted",
    "JournalDamaged",
    "RateLimited",
    "RequestRefused",
    "RunMissing",
    "SeedError",
    "TeacherError",
    "TemplateError",
    "TimedOut",
    "Unavailable",
    "UsageError",
]


class EvolError(Exception):
    """What a user can cause or must know: its message says what, where, and what to do next."""

    exit_code: ClassVar[int] = 1


class UsageError(EvolError):
    """Options that cannot be, alone or together."""

    exit_code = 2


class SeedError(EvolError):
    """A seed file that cannot be read, or holds nothing usable."""


class TemplateError(EvolError):
    """A template pack that is broken or would break a guarantee; the message names file and line."""


class DriftError(EvolError):
    """The run's folder was made with other templates, models or parameters; the message names them."""


class JournalDamaged(EvolError):
    """The journal holds something that was not written like that."""


class RunMissing(EvolError):
    """There is no run in this folder, or no such row in this run."""


class FolderInUse(EvolError):
    """Another process is at work in the run's folder; the message names its pid and host."""

    exit_code = 3


class CannotWrite(EvolError):
    """The disk refuses: full, read-only, not permitted."""

    exit_code = 4


class TeacherError(EvolError):
    """The teacher refuses or is unreachable, and no further call makes sense."""

    exit_code = 5


class BudgetReached(EvolError):
    """No further call would stay within what may be spent; what was answered is kept."""

    exit_code = 6


class Interrupted(EvolError):
    """The user stopped it."""

    exit_code = 130


class CallFailed(Exception):
    """One call to a teacher failed.

    `retryable` and `counted` (as a try) are what `ask.py` needs to know of it. `billed` says that the teacher may have
    worked on it, and ask to be paid, although nothing of use came.
    """

    retryable: ClassVar[bool] = True
    counted: ClassVar[bool] = True
    billed: bool = False


class Unavailable(CallFailed):
    """No reply came: the connection failed, or the server broke."""

    def __init__(self, message: str, *, billed: bool = False) -> None:
        super().__init__(message)
        self.billed = billed


class TimedOut(Unavailable):
    """No reply came in time, or it never came to its end."""

    def __init__(self, message: str) -> None:
        super().__init__(message, billed=True)


class AskAgain(CallFailed):
    """The server does not take the request in this form; the teacher will send it in another one when asked again."""

    counted = False


class RateLimited(CallFailed):
    """The teacher asks to wait; `retry_after` is in seconds, None where it did not say how long."""

    counted = False

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadReply(CallFailed):
    """A reply came and is of no use: not a chat completion, empty, or cut although its cap was not reached."""

    billed = True


class RequestRefused(CallFailed):
    """The teacher will never answer this request (too long for its context, filtered, malformed)."""

    retryable = False


class DoesNotFit(RequestRefused):
    """The prompt, or the reply with it, is longer than the context: known here, so that nobody need be asked for it."""
