"""Models of the Hugging Face hub: which file is meant, and how it gets here, against a stand-in on loopback.

`huggingface_hub` reads its settings when it is imported, so that each download is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from evol.errors import CannotWrite, TeacherError, UsageError
from evol.teachers import LocalModel, parse_spec, teacher_named
from evol.teachers.hub import choose, parts
from tests.conftest import SeedFile

REPOSITORY = "org/repo"
LIST = f"/api/models/{REPOSITORY}"
FILES = f"/{REPOSITORY}/resolve/main/"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "model-Q4_K_M.gguf"
SPLIT = [f"big-Q4_K_M-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
PATH_FORM = "named local:PATH/TO/MODEL.gguf"
DOWNLOAD = """
import sys
from evol.errors import EvolError
from evol.teachers import teacher_named
from evol.teachers.hub import download
try:
    print(download(*sys.argv[1:]) if len(sys.argv) > 2 else teacher_named(sys.argv[1], {}).path)
except EvolError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


@dataclass(frozen=True)
class Answer:
    """What the stand-in says instead of what it would say; with status 0 it says nothing."""

    status: int
    code: str = ""
    body: bytes = b"no"


SILENCE = Answer(0)


class Hub(ThreadingHTTPServer):
    """The hub with one repository of small files.

    `asked` counts what came, as `GET /path`; `instead` is what is answered to that, or under "" to anything.
    """

    daemon_threads = True

    def __init__(self, *names: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {name: b"GGUF" + name.encode() * 99 for name in names}
        self.asked: Counter[str] = Counter()
        self.instead: dict[str, Answer] = {}
        self.stopped = Event()
        self._thread = Thread(target=self.serve_forever, args=(0.01,), name="stand-in hub", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Hub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def fetched(self) -> dict[str, int]:
        """How often each file was sent."""
        return {name: sent for name in self.files if (sent := self.asked[f"GET {FILES}{name}"])}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401 - as the base class has it
        pass

    def _answer(self) -> None:
        hub = self.server
        assert isinstance(hub, Hub)
        path = unquote(urlsplit(self.path).path)
        asked = f"{self.command} {path}"
        hub.asked[asked] += 1
        answer = hub.instead.get(asked, hub.instead.get("", self._usual(hub, path)))
        if answer == SILENCE:
            hub.stopped.wait()
            return
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{sha256(answer.body).hexdigest()}"')
        if answer.code:
            self.send_header("X-Error-Code", answer.code)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(answer.body)

    def _usual(self, hub: Hub, path: str) -> Answer:
        if path == LIST:
            siblings = [{"rfilename": name} for name in ("README.md", *hub.files)]
            return Answer(200, body=json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode())
        body = hub.files.get(path.removeprefix(FILES))
        return Answer(404, "RepoNotFound") if body is None else Answer(200, body=body)


def environment(hub: Hub) -> dict[str, str]:
    """That of this process, with the hub at the stand-in and its cache in the working folder, and no token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TQDM_"))}
    cache = {"HF_HOME": str(Path("hf").absolute()), "HF_HUB_CACHE": str(Path("hf/hub").absolute())}
    return kept | cache | {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def run(
    hub: Hub, *line: str, stderr: int = subprocess.PIPE, timeout: float = 60, **variables: str
) -> subprocess.CompletedProcess[str]:
    """What Python does with these words in this environment. Warnings are errors in it."""
    return subprocess.run(
        [sys.executable, "-W", "error", *line],
        env=environment(hub) | variables,
        stdout=subprocess.PIPE,
        stderr=stderr,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )


def downloaded(hub: Hub, quantization: str = "") -> Path:
    """Where the model lies after a download that went well."""
    result = run(hub, "-c", DOWNLOAD, REPOSITORY, quantization)
    assert result.returncode == 0, result.stderr
    return Path(result.stdout.removesuffix("\n"))


def refusal(hub: Hub, quantization: str = "", code: int = TeacherError.exit_code) -> str:
    """What a download that goes wrong says."""
    result = run(hub, "-c", DOWNLOAD, REPOSITORY, quantization)
    assert (result.returncode, result.stdout) == (code, ""), result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("names", "quantization", "chosen"),
    [
        pytest.param("m-Q2_K.gguf m-Q4_K_M.gguf m-Q8_0.gguf", "", "m-Q4_K_M.gguf", id="the preferred of several"),
        pytest.param("m-q4_k_m.gguf m-q8_0.gguf", "", "m-q4_k_m.gguf", id="the preferred in small letters"),
        pytest.param("m-Q8_0.gguf", "", "m-Q8_0.gguf", id="the only one, of any kind"),
        pytest.param("README.md config.json model.gguf", "", "model.gguf", id="the only one, without a kind"),
        pytest.param("m-Q4_K_M.gguf m-Q8_0.gguf", "Q8_0", "m-Q8_0.gguf", id="the one asked for"),
        pytest.param("m-Q4_K_M.gguf m-Q8_0.gguf", "q8_0", "m-Q8_0.gguf", id="asked for in small letters"),
        pytest.param("m-q4_k_m.gguf m-q8_0.gguf", "Q8_0", "m-q8_0.gguf", id="named in small letters"),
        pytest.param("m-BF16.gguf m-F16.gguf", "F16", "m-F16.gguf", id="a kind whose name ends another's"),
        pytest.param("m-IQ4_XS.gguf m-Q4_K_M.gguf", "IQ4_XS", "m-IQ4_XS.gguf", id="a kind with a prefix"),
        pytest.param("m.Q4_K_M.gguf m.Q8_0.gguf", "Q8_0", "m.Q8_0.gguf", id="after a full stop"),
        pytest.param("Q8_0/m.gguf Q4_K_M/m.gguf", "Q8_0", "Q8_0/m.gguf", id="the name of a folder"),
        pytest.param("a-Q8_0.gguf b-Q8_0.gguf", "b-Q8_0.gguf", "b-Q8_0.gguf", id="the name of a file"),
        pytest.param("a-Q8_0.gguf b-Q8_0.gguf", "B-q8_0.GGUF", "b-Q8_0.gguf", id="the name of a file in small letters"),
        pytest.param("in/a-Q8_0.gguf in/b-Q8_0.gguf", "a-Q8_0.gguf", "in/a-Q8_0.gguf", id="a file in a folder"),
        pytest.param(f"{' '.join(SPLIT)} big-Q8_0.gguf", "", SPLIT[0], id="the first part"),
        pytest.param(" ".join(reversed(SPLIT)), "", SPLIT[0], id="the first part, whatever comes first"),
        pytest.param("m-mmproj-Q4_K_M.gguf m-Q4_K_M.gguf", "", "m-Q4_K_M.gguf", id="no projector"),
        pytest.param("mmproj-m-f16.gguf m-f16.gguf", "F16", "m-f16.gguf", id="no projector of the kind asked for"),
        pytest.param("in/MMPROJ-f16.gguf m-Q8_0.gguf", "", "m-Q8_0.gguf", id="no projector in a folder"),
        pytest.param("m.imatrix.gguf imatrix.gguf m-Q8_0.gguf", "", "m-Q8_0.gguf", id="no importance matrix"),
        pytest.param(
            "m-Q6_K.gguf m-Q6_K_L.gguf",
            "Q6_K",
            "m-Q6_K.gguf",
            id="a kind whose name begins another's",
        ),
        pytest.param(
            "q8/m.gguf q4/m.gguf",
            "q4/m.gguf",
            "q4/m.gguf",
            id="the path of a file",
        ),
    ],
)
def test_the_file_that_is_meant_is_chosen(names: str, quantization: str, chosen: str) -> None:
    assert choose(REPOSITORY, names.split(), quantization) == chosen


@pytest.mark.parametrize(
    ("names", "quantization", "says"),
    [
        ("", "", "local:org/repo has no GGUF file: look for a repository whose name ends in -GGUF"),
        ("model.safetensors README.md", "Q8_0", "has no GGUF file"),
        ("mmproj-f16.gguf imatrix.gguf", "", "has no GGUF file"),
        (
            "m-Q2_K.gguf in/m-Q8_0.gguf",
            "",
            "local:org/repo has several models; name one of these after a colon: in/m-Q8_0.gguf, m-Q2_K.gguf",
        ),
        (
            "m-Q2_K.gguf m-Q8_0.gguf",
            "Q4_0",
            "local:org/repo has no Q4_0; name one of these after a colon: m-Q2_K.gguf, m-Q8_0.gguf",
        ),
        ("m-Q8_0.gguf", "Q4_0", "has no Q4_0; name one of these after a colon: m-Q8_0.gguf"),
        ("m-Q8_0.gguf", "other-Q8_0.gguf", "has no other-Q8_0.gguf; name one"),
        ("m-Q8_0.gguf", "8_0", "has no 8_0"),
        ("m-Q8_0.gguf", ".*", "has no .*;"),
        ("a-Q8_0.gguf b-Q8_0.gguf", "Q8_0", "has several Q8_0; name one of these after a colon: a-Q8_0.gguf, b-Q8_0.g"),
        ("a-Q4_K_M.gguf b-Q4_K_M.gguf", "", "has several Q4_K_M; name one of these"),
    ],
)
def test_where_it_is_not_clear_what_is_meant_it_lists_what_there_is(names: str, quantization: str, says: str) -> None:
    with pytest.raises(TeacherError) as error:
        choose(REPOSITORY, names.split(), quantization)
    assert says in str(error.value)


def test_of_a_model_in_parts_the_first_alone_is_listed() -> None:
    with pytest.raises(TeacherError) as error:
        choose(REPOSITORY, [*SPLIT, "big-Q8_0.gguf"], "Q2_K")
    assert str(error.value).endswith(f": {SPLIT[0]}, big-Q8_0.gguf")


@pytest.mark.parametrize(
    ("chosen", "names", "expected"),
    [
        (MODEL, [MODEL, "other.gguf"], [MODEL]),
        (SPLIT[0], [*SPLIT, "README.md", "big-Q8_0.gguf", "big-Q8_0-00001-of-00002.gguf"], SPLIT),
        (SPLIT[0], reversed(SPLIT), SPLIT),
        (f"Q4_K_M/{SPLIT[0]}", [f"{folder}/{name}" for folder in ("Q4_K_M", "Q8_0") for name in SPLIT], "Q4_K_M"),
        ("m-00001-of-00001.gguf", ["m-00001-of-00001.gguf", "m.gguf"], ["m-00001-of-00001.gguf"]),
    ],
    ids=["whole", "among others", "in any order", "in a folder", "one of one"],
)
def test_the_parts_of_a_model_are_those_of_its_name(chosen: str, names: list[str], expected: list[str] | str) -> None:
    wanted = [f"{expected}/{name}" for name in SPLIT] if isinstance(expected, str) else expected
    assert parts(REPOSITORY, chosen, list(names)) == wanted


@pytest.mark.parametrize(
    ("spec", "model"),
    [
        ("local:org/repo", LocalModel(None, "org/repo")),
        (" local:org/repo\n", LocalModel(None, "org/repo")),
        ("local:org/repo:Q8_0", LocalModel(None, "org/repo", "Q8_0")),
        ("local:Org-1/Repo_2.5-GGUF:q4_k_m", LocalModel(None, "Org-1/Repo_2.5-GGUF", "q4_k_m")),
        ("local:org/repo:model-Q8_0.gguf", LocalModel(None, "org/repo", "model-Q8_0.gguf")),
        ("local:org/repo:in/model-Q8_0.gguf", LocalModel(None, "org/repo", "in/model-Q8_0.gguf")),
        ("local:model.gguf", LocalModel(Path("model.gguf"))),
        ("local:models/model.gguf", LocalModel(Path("models/model.gguf"))),
        ("local:models/MODEL.GGUF", LocalModel(Path("models/MODEL.GGUF"))),
        ("local:/models/model.gguf", LocalModel(Path("/models/model.gguf"))),
        ("local:~/model.gguf", LocalModel(Path.home() / "model.gguf")),
        ("local:./org/repo", LocalModel(Path("org/repo"))),
        ("local:../org/repo", LocalModel(Path("../org/repo"))),
        ("local:repo", LocalModel(Path("repo"))),
        ("local:org/repo/more", LocalModel(Path("org/repo/more"))),
        ("local:org/repo:", LocalModel(Path("org/repo:"))),
        ("local:a model.gguf", LocalModel(Path("a model.gguf"))),
    ],
)
def test_a_local_spec_names_a_file_or_a_repository(spec: str, model: LocalModel) -> None:
    assert parse_spec(spec) == model


def test_what_is_here_is_no_repository() -> None:
    Path("org/repo").mkdir(parents=True)
    assert parse_spec("local:org/repo") == LocalModel(Path("org/repo"))


@pytest.mark.parametrize("spec", ["local", "local:", "Local:org/repo"])
def test_a_local_spec_that_names_nothing_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match=r"the choices are: .*local:ORG/REPO:QUANT"):
        parse_spec(spec)


def test_a_file_that_is_not_here_is_told_with_both_forms() -> None:
    with pytest.raises(TeacherError, match=r"nosuch\.gguf: no such file; .*local:PATH/TO/MODEL\.gguf.* local:ORG"):
        teacher_named("local:nosuch.gguf", {})


def test_a_name_that_no_repository_can_have_is_refused_without_asking() -> None:
    with Hub(MODEL) as hub:
        result = run(hub, "-c", DOWNLOAD, "local:org/re--po")
    assert result.returncode == TeacherError.exit_code
    assert "local:org/re--po is not the name of a repository: " in result.stderr
    assert not hub.asked


def test_a_model_is_downloaded_once() -> None:
    with Hub(MODEL, "model-Q8_0.gguf") as hub:
        first = downloaded(hub)
        assert hub.fetched() == {MODEL: 1}
        assert downloaded(hub) == first
        assert hub.fetched() == {MODEL: 1}
        assert (first.name, first.read_bytes()) == (MODEL, hub.files[MODEL])


def test_all_parts_of_a_model_are_downloaded_and_the_first_is_named() -> None:
    with Hub(*SPLIT, "big-Q8_0.gguf") as hub:
        path = downloaded(hub)
        assert hub.fetched() == dict.fromkeys(SPLIT, 1)
    assert path.name == SPLIT[0]
    assert [(path.parent / name).read_bytes() for name in SPLIT] == [hub.files[name] for name in SPLIT]


def test_a_spec_with_a_quantization_names_the_teacher_of_that_file() -> None:
    with Hub(MODEL, "model-Q8_0.gguf") as hub:
        result = run(hub, "-c", DOWNLOAD, f"local:{REPOSITORY}:q8_0")
        assert (result.returncode, Path(result.stdout.strip()).name) == (0, "model-Q8_0.gguf"), result.stderr
        assert hub.fetched() == {"model-Q8_0.gguf": 1}


@pytest.mark.parametrize("names", [[MODEL], SPLIT], ids=["whole", "in parts"])
def test_without_the_hub_a_cached_model_is_found(names: list[str]) -> None:
    with Hub(*names) as hub:
        path = downloaded(hub)
    assert downloaded(hub) == path


def test_without_the_hub_a_quantization_that_is_not_cached_is_told_with_what_is() -> None:
    with Hub(MODEL, "model-Q8_0.gguf") as hub:
        downloaded(hub)
    said = refusal(hub, "Q8_0")
    assert "(of which the cache is all there is now) has no Q8_0; name one of these" in said
    assert said.rstrip().endswith(MODEL)


def test_a_failing_hub_is_like_none() -> None:
    with Hub(MODEL) as hub:
        hub.instead[""] = Answer(500)
        assert "the Hugging Face hub cannot be reached (" in (said := refusal(hub))
        assert "500" in said
        hub.instead.clear()
        path = downloaded(hub)
        hub.instead[""] = Answer(500)
        assert downloaded(hub) == path


def test_without_the_hub_and_with_nothing_cached_the_command_line_shows_the_path_form(seed_file: SeedFile) -> None:
    with Hub(MODEL) as hub:
        pass
    result = run(hub, "-m", "evol", "run", "--seed", str(seed_file()), "--teacher", "local:org/repo")
    assert (result.returncode, result.stdout) == (5, "")
    assert result.stderr.startswith("evol: local:org/repo: the Hugging Face hub cannot be reached (")
    assert PATH_FORM in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("outputs").exists()


def test_a_dry_run_does_not_ask_the_hub(seed_file: SeedFile) -> None:
    with Hub(MODEL) as hub:
        line = ["run", "--seed", str(seed_file()), "--teacher", "local:org/repo", "--dry-run"]
        assert run(hub, "-m", "evol", *line).returncode == 0
    assert not hub.asked


@pytest.mark.parametrize("answer", [Answer(404, "RepoNotFound"), Answer(401, "RepoNotFound"), Answer(401), Answer(403)])
def test_a_repository_that_the_hub_does_not_show_is_told_with_the_token(answer: Answer) -> None:
    with Hub(MODEL) as hub:
        hub.instead[f"GET {LIST}"] = answer
        said = refusal(hub)
    assert "local:org/repo: the Hugging Face hub shows no such repository (" in said
    assert str(answer.status) in said
    assert "set HF_TOKEN" in said


def test_a_gated_model_whose_list_is_open_is_told_with_the_token() -> None:
    with Hub(MODEL) as hub:
        hub.instead[f"HEAD {FILES}{MODEL}"] = Answer(401, "GatedRepo")
        said = refusal(hub)
    assert "HF_TOKEN" in said
    assert "cannot be reached" not in said


def test_a_hub_that_asks_to_wait_is_not_told_as_a_repository_that_is_not_there() -> None:
    with Hub(MODEL) as hub:
        path = downloaded(hub)
        hub.instead[f"GET {LIST}"] = Answer(429)
        assert downloaded(hub) == path


def test_a_page_in_place_of_the_hub_is_like_no_hub() -> None:
    with Hub(MODEL) as hub:
        hub.instead[""] = Answer(200, body=b"<html>Please log in</html>")
        assert PATH_FORM in refusal(hub)


def test_a_hub_that_says_nothing_is_left_after_the_time_that_is_set_for_it() -> None:
    with Hub(MODEL) as hub:
        path = downloaded(hub)
        hub.instead[""] = SILENCE
        result = run(hub, "-c", DOWNLOAD, REPOSITORY, "", timeout=8, HF_HUB_ETAG_TIMEOUT="1")
    assert result.stdout.strip() == str(path)


def test_a_cache_that_cannot_be_written_is_told_as_such() -> None:
    Path("hf").mkdir()
    Path("hf/hub").touch()
    with Hub(MODEL) as hub:
        said = refusal(hub, code=CannotWrite.exit_code)
    assert "hf/hub" in said
    assert "cannot be reached" not in said


def test_a_download_that_breaks_is_told_as_such() -> None:
    with Hub(MODEL) as hub:
        hub.instead[f"GET {FILES}{MODEL}"] = Answer(500)
        said = refusal(hub)
    assert "has no GGUF file" not in said
    assert "500" in said


def test_a_model_of_which_a_part_is_missing_is_not_taken_for_whole() -> None:
    with Hub(*SPLIT) as hub:
        hub.instead[f"GET {FILES}{SPLIT[1]}"] = Answer(500)
        result = run(hub, "-c", DOWNLOAD, REPOSITORY, "")
    assert result.stdout == ""
    assert result.returncode == TeacherError.exit_code


def test_a_download_that_was_broken_off_is_made_good() -> None:
    with Hub(*SPLIT) as hub:
        hub.instead[f"GET {FILES}{SPLIT[1]}"] = Answer(500)
        run(hub, "-c", DOWNLOAD, REPOSITORY, "")
        hub.instead.clear()
        path = downloaded(hub)
    assert [(path.parent / name).read_bytes() for name in SPLIT] == [hub.files[name] for name in SPLIT]


def test_without_huggingface_hub_it_says_what_to_install() -> None:
    hidden = "import sys; sys.modules['huggingface_hub'] = None\n"
    with Hub(MODEL) as hub:
        result = run(hub, "-c", hidden + DOWNLOAD, REPOSITORY, "")
    assert result.returncode == TeacherError.exit_code
    assert "local:org/repo needs huggingface_hub: pip install 'evol-instruct[local]'" in result.stderr
    assert PATH_FORM in result.stderr


def test_a_download_shows_its_progress_on_a_terminal() -> None:
    termios = pytest.importorskip("termios")
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (25, 80))
    try:
        with Hub(MODEL) as hub:
            result = run(hub, "-c", DOWNLOAD, REPOSITORY, "", stderr=theirs)
        shown = os.read(ours, 65_536).decode("utf-8")
    finally:
        os.close(ours)
        os.close(theirs)
    assert f"{MODEL}: 100%" in shown
    assert result.stdout.count("\n") == 1
