"""Models on the Hugging Face hub: which of a repository's GGUF files is meant, and where it lies on this machine.

Downloads, the cache and the progress bar are those of `huggingface_hub`; so are HF_ENDPOINT, HF_HOME and HF_TOKEN.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from pathlib import Path

from evol.errors import CannotWrite, TeacherError
from evol.teachers.options import PART, PREFERRED

Errors = tuple[type[BaseException], ...]
NOT_A_MODEL = re.compile(r"(?:\A|[/_.-])(?:mmproj|imatrix)", re.IGNORECASE)
NOT_SHOWN = frozenset({401, 403, 404})  # how the hub says: not there, or not for you
DISK_REFUSES = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
)
PATH_FORM = "a model that is on this machine already is named local:PATH/TO/MODEL.gguf"
TOKEN = "where it is private or gated, set HF_TOKEN"


def download(repository: str, quantization: str) -> Path:
    """The model file, from the cache where it is there; the first part where it has several.

    Raises `TeacherError` where there is no such repository or quantization, or no way to the hub and nothing cached,
    and `CannotWrite` where the cache cannot take it.
    """
    try:
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise TeacherError(
            f"local:{repository} needs huggingface_hub: pip install 'evol-instruct[local]'; {PATH_FORM}"
        ) from error
    # The hub's own error descends from that of its HTTP client, which is another one in each of its major versions.
    out_of_reach: Errors = (OSError, *HfHubHTTPError.__bases__)
    try:
        names = _listed(repository)
    except out_of_reach as error:
        return _cached(repository, quantization, error)
    wanted = parts(repository, choose(repository, names, quantization), names)
    first, *_ = [_fetched(repository, name, out_of_reach) for name in wanted]
    return first


def choose(repository: str, names: Iterable[str], quantization: str) -> str:
    """The file of this quantization (its name, or a part of it); the first part of several. Raises `TeacherError`."""
    models = sorted(name for name in names if name.lower().endswith(".gguf") and not NOT_A_MODEL.search(name))
    models = [name for name in models if not (part := PART.search(name)) or int(part[1]) == 1]
    if not models:
        raise TeacherError(f"local:{repository} has no GGUF file: look for a repository whose name ends in -GGUF")
    wanted = quantization or PREFERRED
    found = [name for name in models if _is_named(name, wanted)]
    if not found and not quantization and len(models) == 1:
        return models[0]
    if len(found) == 1:
        return found[0]
    problem = f"has several {wanted}" if found else f"has no {quantization}" if quantization else "has several models"
    raise TeacherError(f"local:{repository} {problem}; name one of these after a colon: {', '.join(models)}")


def parts(repository: str, chosen: str, names: Iterable[str]) -> list[str]:
    """All files of a model that comes in parts, in order; else the one. Raises `TeacherError` where one is missing."""
    if not (part := PART.search(chosen)):
        return [chosen]
    stem = chosen[: part.start()]
    found = sorted(name for name in names if name.startswith(f"{stem}-") and PART.search(name))
    if len(found) != int(part[2]):
        raise TeacherError(f"local:{repository}: {len(found)} of the {int(part[2])} parts of {stem} are there")
    return found


def _fetched(repository: str, name: str, out_of_reach: Errors) -> Path:
    """One file, downloaded where it is not in the cache. Raises as `download` does."""
    from huggingface_hub import hf_hub_download

    failures: Errors = (RuntimeError, ValueError, *out_of_reach)  # the first two where the hub stores it by Xet
    try:
        return Path(hf_hub_download(repository, name))
    except failures as error:
        if isinstance(error, OSError) and error.errno in DISK_REFUSES:
            raise CannotWrite(
                f"{error.filename or 'the cache of the hub'}: {error.strerror}: make room there"
            ) from error
        if _status(error) in NOT_SHOWN:
            raise TeacherError(f"local:{repository}: the hub does not give {name}; {TOKEN}") from error
        raise TeacherError(f"local:{repository}: {name} could not be downloaded: {_first_line(error)}") from error


def _cached(repository: str, quantization: str, why: BaseException) -> Path:
    """The model file in the cache, for when the hub cannot be reached."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix.lower() == ".gguf"]
    except OSError:
        names = []
    if not names:
        raise TeacherError(
            f"local:{repository}: the Hugging Face hub cannot be reached ({_first_line(why)}), and nothing of it is in "
            f"the cache; {PATH_FORM}"
        ) from why
    here = f"{repository} (of which the cache is all there is now)"
    return folder / parts(here, choose(here, names, quantization), names)[0]


def _is_named(name: str, wanted: str) -> bool:
    if wanted.lower().endswith(".gguf"):
        return wanted.lower() in (name.lower(), Path(name).name.lower())
    return bool(re.search(rf"(?:\A|[-._/]){re.escape(wanted)}(?:[-./]|\Z)", name, re.IGNORECASE))


def _listed(repository: str) -> list[str]:
    """The repository's files. Raises `TeacherError` where the hub shows no such one, else what its client raises."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        siblings = HfApi().model_info(repository, timeout=constants.HF_HUB_ETAG_TIMEOUT).siblings or []
    except HFValidationError as error:
        raise TeacherError(f"local:{repository} is not the name of a repository: {_first_line(error)}") from error
    except HfHubHTTPError as error:
        if _status(error) in NOT_SHOWN:
            raise TeacherError(
                f"local:{repository}: the Hugging Face hub shows no such repository ({_status(error)}); {TOKEN}"
            ) from error
        raise
    except ValueError as error:
        raise OSError("what is there in its place does not answer in JSON") from error
    return [sibling.rfilename for sibling in siblings]


def _status(error: BaseException) -> int:
    response = getattr(error, "response", None)
    return int(response.status_code) if response is not None else 0


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
