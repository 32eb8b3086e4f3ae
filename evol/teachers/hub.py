"""Models on the Hugging Face hub: which of a repository's GGUF files is meant, and where it lies on this machine.

Downloads, the cache and the progress bar are those of `huggingface_hub`; so are HF_ENDPOINT, HF_HOME and HF_TOKEN.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from evol.errors import TeacherError
from evol.teachers.options import PREFERRED

PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf\Z")
NOT_A_MODEL = re.compile(r"(?:\A|[/_.-])(?:mmproj|imatrix)", re.IGNORECASE)
PATH_FORM = "a model that is on this machine already is named local:PATH/TO/MODEL.gguf"


def download(repository: str, quantization: str) -> Path:
    """The model file, from the cache where it is there; the first part where it has several.

    Raises `TeacherError` where there is no such repository or quantization, or no way to the hub and nothing cached.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise TeacherError(
            f"local:{repository} needs huggingface_hub: pip install 'evol-instruct[local]'; {PATH_FORM}"
        ) from error
    # The hub's own error descends from that of its HTTP client, which is another one in each of its major versions.
    out_of_reach: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)
    try:
        names = _listed(repository)
        chosen = choose(repository, names, quantization)
        paths = [hf_hub_download(repository, name) for name in parts(chosen, names)]
    except out_of_reach as error:
        return _cached(repository, quantization, error)
    return Path(paths[0])


def _cached(repository: str, quantization: str, why: BaseException) -> Path:
    """The model file in the cache, for when the hub cannot be reached."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except OSError as error:
        raise TeacherError(
            f"local:{repository}: the Hugging Face hub cannot be reached ({_first_line(why)}), and nothing of it is in "
            f"the cache; {PATH_FORM}"
        ) from error
    names = [str(path.relative_to(folder)) for path in folder.rglob("*.gguf")]
    chosen = choose(f"{repository} (of which the cache is all there is now)", names, quantization)
    return folder / chosen


def choose(repository: str, names: Iterable[str], quantization: str) -> str:
    """The file of this quantization (its name, or a part of it); the first part of several. Raises `TeacherError`."""
    models = sorted(name for name in names if name.endswith(".gguf") and not NOT_A_MODEL.search(name))
    models = [name for name in models if not (part := PART.search(name)) or int(part[1]) == 1]
    if not models:
        raise TeacherError(f"local:{repository} has no GGUF file: look for a repository whose name ends in -GGUF")
    wanted = quantization or PREFERRED
    found = [name for name in models if _is_named(name, wanted)]
    if not found and not quantization and len(models) == 1:
        return models[0]
    if len(found) == 1:
        return found[0]
    have = ", ".join(Path(name).name for name in models)
    problem = f"has no {quantization}" if quantization else "has several models"
    problem = f"has several {wanted}" if found else problem
    raise TeacherError(f"local:{repository} {problem}; name one of these after a colon: {have}")


def parts(chosen: str, names: Iterable[str]) -> list[str]:
    """All the files of a model that comes in parts, in order; else the one."""
    if not (part := PART.search(chosen)):
        return [chosen]
    stem = chosen[: part.start()]
    return sorted(name for name in names if name.startswith(f"{stem}-") and PART.search(name))


def _is_named(name: str, wanted: str) -> bool:
    if wanted.lower().endswith(".gguf"):
        return Path(name).name.lower() == wanted.lower()
    return bool(re.search(rf"(?:\A|[-._/]){re.escape(wanted)}(?:[-._/]|\Z)", name, re.IGNORECASE))


def _listed(repository: str) -> list[str]:
    """The repository's files. Raises `TeacherError` where the hub says that there is no such repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        siblings = HfApi().model_info(repository).siblings or []
    except HFValidationError as error:
        raise TeacherError(f"local:{repository} is not the name of a repository: {_first_line(error)}") from error
    except HfHubHTTPError as error:
        if error.response is None or error.response.status_code >= 500:
            raise
        raise TeacherError(
            f"local:{repository}: the Hugging Face hub shows no such repository ({_first_line(error)}); where it is "
            "private or gated, set HF_TOKEN"
        ) from error
    return [sibling.rfilename for sibling in siblings]


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
