"""Recipes: flags over file over defaults, what is refused and how it is named; and from a name to a teacher."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mock_teacher import Call, MockTeacher, Reply, completion
from evol.errors import TeacherError, UsageError
from evol.recipe import ROLES, SAMPLING, Recipe, resolve
from evol.records import Request, Role, Sampling
from evol.teachers import TEACHER_KINDS, Endpoint, parse_spec, teacher_named
from evol.teachers.demo import DemoTeacher
from evol.teachers.openai import OpenAITeacher
from evol.teachers.servers import OPENAI_URL

SECRET = "sk-canary-0123456789"


def recipe(file: str = "", **flags: Any) -> Recipe:  # noqa: ANN401 - as flags come
    """The recipe of these flags, and of this text in the evol.toml of the working folder."""
    if file:
        Path("evol.toml").write_text(file, encoding="utf-8")
    return resolve({"seed": Path("seeds.json"), **flags})


def refusal(file: str = "", **flags: Any) -> str:  # noqa: ANN401 - as flags come
    with pytest.raises(UsageError) as error:
        recipe(file, **flags)
    return str(error.value)


def test_what_is_not_said_has_its_default() -> None:
    resolved = recipe()
    assert resolved == Recipe(seed=Path("seeds.json"))
    assert (resolved.rounds, resolved.templates, resolved.concurrency, resolved.tries) == (4, "wizardlm", "auto", 5)
    assert (resolved.timeout, resolved.random_seed, resolved.words, resolved.weights) == (None, 42, None, {})


def test_flags_go_over_the_file_and_the_file_over_the_defaults() -> None:
    resolved = recipe("rounds = 2\ntries = 3\nwords = [5, 9]", rounds=7)
    assert (resolved.rounds, resolved.tries, resolved.words, resolved.concurrency) == (7, 3, (5, 9), "auto")


def test_a_flag_that_is_not_given_is_none_and_changes_nothing() -> None:
    assert recipe("rounds = 2\nstrict = true", rounds=None, strict=None, words=None, weights=None) == recipe(
        "rounds = 2\nstrict = true"
    )


def test_a_flag_of_0_is_given() -> None:
    assert recipe("rounds = 2", rounds=0).rounds == 0


def test_a_file_is_taken_where_it_is_named() -> None:
    Path("evol.toml").write_text("rounds = 2", encoding="utf-8")
    Path("other.toml").write_text("\ufefftries = 3\r\n", encoding="utf-8")
    resolved = resolve({"seed": Path("seeds.json")}, Path("other.toml"))
    assert (resolved.rounds, resolved.tries) == (4, 3)


def test_the_file_may_name_the_seeds() -> None:
    Path("evol.toml").write_text('seed = "pools/mine.jsonl"', encoding="utf-8")
    assert resolve({"seed": None}).seed == Path("pools/mine.jsonl")


def test_a_teacher_given_as_a_flag_sets_aside_the_roles_of_the_file() -> None:
    file = 'teacher = "openai:a"\njudge = "openai:b"\nresponder = "openai:c"\nrounds = 2'
    resolved = recipe(file, teacher="demo")
    assert [resolved.spec(role) for role in ROLES] == ["demo"] * 4
    assert resolved.rounds == 2


def test_a_role_given_as_a_flag_leaves_the_others_to_the_file() -> None:
    resolved = recipe('teacher = "openai:a"\njudge = "openai:b"', judge="demo", responder="openai:c")
    assert {role: resolved.spec(role) for role in ROLES} == {
        "evolver": "openai:a",
        "judge": "demo",
        "responder": "openai:c",
        "scorer": "openai:a",
    }


def test_a_role_and_a_teacher_may_both_be_flags() -> None:
    resolved = recipe('judge = "openai:b"', teacher="demo", evolver="openai:a")
    assert [resolved.spec(role) for role in ("evolver", "judge")] == ["openai:a", "demo"]


# The text of evol.toml, and what the refusal says of it.
BAD_FILES = [
    ("round = 3", "evol.toml: no option is called `round`; the options are: seed, out, "),
    ("teachers = 'demo'", "evol.toml: no option is called `teachers`"),
    ("[sampling.judge]\nmirostat = 3", "max_tokens, temperature, top_p"),
    ("[sampling.jugde]\ntop_p = 1", "evol.toml: sampling.jugde"),
    ("[sampling.judge]\ntemperature = 3", "evol.toml: sampling.judge.temperature: "),
    ("[sampling.judge]\ntemperature = 'hot'", "evol.toml: sampling.judge.temperature: "),
    ("[sampling.judge]\ntop_p = 0", "evol.toml: sampling.judge.top_p: "),
    ("[sampling.judge]\nmax_tokens = 'unset'", "evol.toml: sampling.judge.max_tokens: "),
    ("rounds = -1", "evol.toml: rounds: "),
    ("rounds = 'four'", "evol.toml: rounds: "),
    ("limit = 0", "evol.toml: limit: "),
    ("concurrency = 0", "evol.toml: concurrency: "),
    ("tries = 0", "evol.toml: tries: "),
    ("timeout = 0", "evol.toml: timeout: "),
    ("timeout = inf", "evol.toml: timeout: "),
    ("strict = 'perhaps'", "evol.toml: strict: "),
    ("words = [20, 10]", "evol.toml: words: the least is more than the most"),
    ("words = [10]", "evol.toml: words"),
    ("words = [10, 0]", "evol.toml: words"),
    ("weights.breadth = -1", "evol.toml: weights.breadth: "),
    ("weights.breadth = nan", "evol.toml: weights.breadth: "),
    ("teacher = 5", "evol.toml: teacher: "),
    ("keys = 5", "evol.toml: keys: "),
    ("keys.localhost.x = 'KEY'", "evol.toml: keys.localhost: "),
    ("rounds =", "evol.toml: not TOML: "),
    ("rounds = 1\nrounds = 2", "evol.toml: not TOML: "),
    (f"rounds = {'9' * 5000}", "evol.toml: "),
    (f"rounds = {'[' * 5000}", "evol.toml: "),
]


@pytest.mark.parametrize(("file", "says"), BAD_FILES, ids=lambda text: text[:40])
def test_what_is_wrong_in_the_file_is_named_with_the_file(file: str, says: str) -> None:
    assert says in refusal(file)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"rounds": -1}, "--rounds: "),
        ({"limit": 0}, "--limit: "),
        ({"sample": 0}, "--sample: "),
        ({"concurrency": 0}, "--concurrency: "),
        ({"timeout": float("nan")}, "--timeout: "),
        ({"random_seed": "x"}, "--random-seed: "),
        ({"words": (20, 10)}, "--words: the least is more than the most"),
        ({"words": (-1, 10)}, "--words: "),
        ({"weights": {"breadth": -1.0}}, "--weight breadth: "),
        ({"weights": {"breadth": float("inf")}}, "--weight breadth: "),
    ],
    ids=str,
)
def test_what_is_wrong_in_a_flag_is_named_with_the_flag(flags: dict[str, Any], says: str) -> None:
    assert refusal("tries = 3", **flags).startswith(says)


def test_without_a_seed_file_it_says_how_to_name_one() -> None:
    with pytest.raises(UsageError, match="no seed file: name one with --seed FILE"):
        resolve({"seed": None, "teacher": "demo"})


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), (b"x = '\xff'", "not TOML")])
def test_a_file_that_cannot_be_read_is_refused(content: bytes | None, says: str) -> None:
    path = Path("other.toml")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"other.toml: {says}"):
        resolve({"seed": Path("seeds.json")}, path)


def test_a_folder_is_no_file_of_options(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Is a directory"):
        resolve({"seed": Path("seeds.json")}, tmp_path)


@pytest.mark.parametrize("role", ROLES)
def test_without_options_a_role_samples_by_its_default(role: Role) -> None:
    assert recipe().sampling_of(role) == SAMPLING[role]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("temperature = 0.7", Sampling(2048, 0.7, 0.9)),
        ("temperature = 0", Sampling(2048, 0.0, 0.9)),
        ("max_tokens = 99\ntop_p = 1", Sampling(99, 1.0, 1.0)),
        ("temperature = 'unset'", Sampling(2048, None, 0.9)),
        ("temperature = 'unset'\ntop_p = 'unset'\nmax_tokens = 1", Sampling(1, None, None)),
        ("", Sampling(2048, 1.0, 0.9)),
    ],
)
def test_sampling_options_are_laid_over_the_default(options: str, expected: Sampling) -> None:
    resolved = recipe(f"[sampling.evolver]\n{options}")
    assert resolved.sampling_of("evolver") == expected
    assert resolved.sampling_of("judge") == SAMPLING["judge"]


@pytest.mark.parametrize(
    ("seed", "folder"),
    [
        ("seeds/alpaca.json", "outputs/alpaca"),
        ("/data/my pool.v2.jsonl", "outputs/my pool.v2"),
        ("alpaca", "outputs/alpaca"),
    ],
)
def test_the_run_lives_in_a_folder_named_after_the_seed_file(seed: str, folder: str) -> None:
    assert recipe(seed=Path(seed)).folder == Path(folder)


def test_the_run_lives_where_out_says() -> None:
    assert recipe('out = "there"').folder == Path("there")
    assert recipe('out = "there"', out=Path("here")).folder == Path("here")


def test_a_scorer_is_needed_only_for_scoring_the_seeds() -> None:
    assert recipe().roles() == ("evolver", "judge", "responder")
    assert recipe(score_seeds=True).roles() == ROLES


def test_where_no_teacher_is_named_the_choices_are_listed() -> None:
    with pytest.raises(UsageError, match="no teacher is named") as error:
        recipe().check_teachers()
    assert all(f"--teacher {kind}" in str(error.value) for kind in TEACHER_KINDS)


def test_a_role_without_a_teacher_is_not_given_that_of_another() -> None:
    named: dict[str, Any] = {"evolver": "demo", "judge": "demo", "responder": "demo"}
    recipe(**named).check_teachers()
    with pytest.raises(UsageError, match="no teacher is named"):
        recipe(**named, score_seeds=True).check_teachers()
    with pytest.raises(UsageError, match="no teacher is named"):
        recipe(**{**named, "judge": None}).check_teachers()


def test_a_teacher_that_nobody_knows_is_refused_in_any_role() -> None:
    with pytest.raises(UsageError, match="no teacher is called 'gpt-5'"):
        recipe(teacher="demo", judge="gpt-5").check_teachers()


@pytest.mark.parametrize(
    ("spec", "model", "url", "host"),
    [
        ("openai:gpt-5-mini", "gpt-5-mini", OPENAI_URL, "api.openai.com"),
        (" openai:gpt-5-mini\n", "gpt-5-mini", OPENAI_URL, "api.openai.com"),
        ("openai:m@http://localhost:8000/v1", "m", "http://localhost:8000/v1", "localhost:8000"),
        ("openai:m@https://example.org/api/v1/", "m", "https://example.org/api/v1", "example.org"),
        ("openai:m@http://[::1]:8000/v1", "m", "http://[::1]:8000/v1", "[::1]:8000"),
        ("openai:Qwen/Qwen3-8B@http://h:1/v1", "Qwen/Qwen3-8B", "http://h:1/v1", "h:1"),
        ("openai:claude@20250101", "claude@20250101", OPENAI_URL, "api.openai.com"),
        ("openai:claude@20250101@http://h/v1", "claude@20250101", "http://h/v1", "h"),
        ("openai:@cf/meta/llama@https://h/v1", "@cf/meta/llama", "https://h/v1", "h"),
        ("openai:llama3:8b@http://h/v1", "llama3:8b", "http://h/v1", "h"),
        ("openai:ft:gpt-4o:org::id", "ft:gpt-4o:org::id", OPENAI_URL, "api.openai.com"),
    ],
)
def test_a_spec_names_a_model_and_where_it_is(spec: str, model: str, url: str, host: str) -> None:
    endpoint = parse_spec(spec)
    assert isinstance(endpoint, Endpoint)
    assert (endpoint.model, endpoint.url, endpoint.host) == (model, url, host)


def test_the_demo_teacher_is_nowhere() -> None:
    assert parse_spec("demo") is None


@pytest.mark.parametrize("spec", ["", "gpt-5-mini", "openai", "openai:", "openai: ", "Demo", "demo:x", "http://h/v1"])
def test_a_spec_that_names_no_teacher_is_refused_with_the_choices(spec: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_spec(spec)
    assert str(error.value) == f"no teacher is called {spec!r}; the choices are: {', '.join(TEACHER_KINDS)}"


@pytest.mark.parametrize("url", ["http:///v1", "http://h:0/v1", "http://h:99999/v1", "http://h:x/v1", "http://[::1/v1"])
def test_an_address_of_no_server_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_spec(f"openai:m@{url}")
    assert str(error.value).startswith(f"{url} is not the address of a server; one looks like http://")


@pytest.mark.parametrize(
    "spec",
    [
        "openai:m@localhost:8000/v1",
        "openai:m@192.168.0.7:8000",
        "openai:m@ftp://h/v1",
        "openai:m@http://",
        "openai:m@http://my host/v1",
        "openai:m@ http://h/v1",
        "openai:@http://h/v1",
        "openai:http://h/v1",
    ],
)
def test_an_address_that_is_not_understood_is_not_taken_for_a_model_of_openai(spec: str) -> None:
    with pytest.raises(UsageError):
        parse_spec(spec)


@pytest.mark.parametrize(
    "address", ["user:hunter2@h/v1", "user:hunter2@h:99999/v1", "hunter2@h/v1", ":hunter2@h/v1", "user:hunter2@/v1"]
)
def test_a_password_in_an_address_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_spec(f"openai:m@http://{address}")
    assert "hunter2" not in str(error.value)


def test_the_name_demo_gives_the_demo_teacher() -> None:
    assert isinstance(teacher_named("demo", {}, 5.0), DemoTeacher)


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_model_of_openai_needs_a_key(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is not None:
        monkeypatch.setenv("OPENAI_API_KEY", value)
    with pytest.raises(TeacherError, match="openai:gpt-5-mini needs a key: set OPENAI_API_KEY in the environment"):
        teacher_named("openai:gpt-5-mini", {}, 5.0)


def test_a_server_of_ones_own_needs_no_key() -> None:
    teacher = teacher_named("openai:m@http://localhost:8000/v1/", {}, 5.0)
    assert isinstance(teacher, OpenAITeacher)
    assert (teacher.model, teacher.url, teacher.demo) == ("m", "http://localhost:8000/v1", False)


def test_a_host_with_a_key_of_its_own_needs_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(TeacherError, match="needs a key: set HOUSE_KEY in the environment"):
        teacher_named("openai:m@http://h:8000/v1", {"h:8000": "HOUSE_KEY"}, 5.0)


@pytest.mark.parametrize(
    "key", ["sk canary", "sk\ncanary", "sk-canary\u00e9", "sk-canary\x7f", "\u201csk-canary\u201d"]
)
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(TeacherError, match="the key in OPENAI_API_KEY holds characters that no key has") as error:
        teacher_named("openai:gpt-5-mini", {}, 5.0)
    assert "canary" not in str(error.value)


def test_a_key_in_place_of_the_name_of_its_variable_is_refused_and_not_shown() -> None:
    said = refusal(f'[keys]\n"h:8000" = "{SECRET}"')
    assert said.startswith("evol.toml: keys.h:8000: ")
    assert SECRET not in said


def authorization(variable: str) -> str:
    """What a server is told, whose key is in this variable."""
    calls: list[Call] = []

    def handle(call: Call) -> Reply:
        calls.append(call)
        return Reply(body=completion("ready", call))

    async def ask(server: MockTeacher) -> None:
        teacher = teacher_named(server.spec, {f"127.0.0.1:{server.port}": variable}, 5.0)
        await teacher.send(Request("respond", "", "Ready?", Sampling(16)))
        await teacher.close()

    with MockTeacher(handle) as server:
        asyncio.run(ask(server))
    return calls[0].headers["authorization"]


@pytest.mark.parametrize("value", [SECRET, f"{SECRET}\n", f" \t{SECRET} \r\n"])
def test_space_around_a_key_is_not_part_of_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY", value)
    assert authorization("HOUSE_KEY") == f"Bearer {SECRET}"


def test_a_host_with_a_key_of_its_own_is_not_told_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai")
    monkeypatch.setenv("HOUSE_KEY", SECRET)
    assert authorization("HOUSE_KEY") == f"Bearer {SECRET}"


def test_a_weight_given_as_a_flag_leaves_the_files_other_weights(tmp_path: Path) -> None:
    (tmp_path / "evol.toml").write_text("[weights]\nbreadth = 2\ndeepen = 3\n", encoding="utf-8")
    recipe = resolve({"seed": Path("seeds.json"), "weights": {"breadth": 0.5}})
    assert recipe.weights == {"breadth": 0.5, "deepen": 3.0}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"teacher": "ollama:m", "local": {"context": 8192}}, "--context is for models that evol runs itself"),
        ({"teacher": "local:a.gguf", "judge": "local:b.gguf", "local": {"port": 8123}}, "`port` in .local. is for one"),
        (
            {"teacher": "local:a.gguf", "judge": "local:b.gguf", "local": {"chat_template_file": "t"}},
            "is for one local",
        ),
        ({"teacher": "local:a.gguf", "local": {"slots": 32}, "concurrency": 16}, "no more than 16 calls"),
        ({"teacher": "local:a.gguf", "local": {"slots": 1000}}, "--slots: "),
        ({"teacher": "local:a.gguf", "local": {"context": 2**31}}, "--context: "),
        ({"sampling": {"evolver": {"stop": [""]}}}, "--stop: "),
        ({"teacher": "local:~nosuchuser/x.gguf"}, "there is no such user"),
        ({"teacher": "local:\udcff.gguf"}, "not UTF-8"),
        ({"teacher": "vllm://mock"}, "vllm:MODEL@http://"),
        ({"teacher": "ollama:mock@localhost"}, "ollama:MODEL@http://"),
    ],
)
def test_what_would_have_no_effect_or_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        resolve({"seed": Path("seeds.json"), **options}).check_teachers()


def test_two_spellings_of_one_local_model_are_one() -> None:
    given = {"teacher": "local:a.gguf", "judge": "local:./a.gguf", "local": {"port": 8123}}
    resolve({"seed": Path("seeds.json"), **given}).check_teachers()
