"""What a run is told: the options of `evol run`, from flags and from an `evol.toml`, checked.

A recipe is resolved before anything is asked: what is not said has its default here, and nothing falls back later.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from evol.errors import UsageError
from evol.packs import DEEP_KEY
from evol.records import Role, Sampling
from evol.teachers import TEACHER_KINDS, LocalModel, LocalOptions, parse_spec
from evol.teachers.keys import is_no_variable
from evol.words import printable

FILE_NAME = "evol.toml"
ROLES: tuple[Role, ...] = ("evolver", "judge", "responder", "scorer")
# The paper's settings for evolving and answering (WizardLM, section 4.2): temperature 1, top_p 0.9, at most 2048
# tokens. Judging is meant to be repeatable; its object is short, the rest is room for a model that thinks first.
SAMPLING: Mapping[Role, Sampling] = {
    "evolver": Sampling(2048, 1.0, 0.9),
    "judge": Sampling(4096, 0.0),
    "responder": Sampling(2048, 1.0, 0.9),
    "scorer": Sampling(4096, 0.0),
}
WRITERS: tuple[Role, ...] = ("evolver", "responder")  # whom the sampling flags are for: verdicts are not drawn
FLAGS = {"seed": "sampling-seed", "enable_thinking": "thinking"}  # where a flag is not called as the option is
UNION_ARMS = (
    "constrained-float",
    "constrained-int",
    "literal['unset']",
    "literal['auto']",
    "[key]",
)  # pydantic's own words in the place of an error

TIME = re.compile(r"(?:\d+(?:\.\d+)?\s*[smhd]?\s*)+")
TIME_PART = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[smhd]?)")
MOST_AT_ONCE = 4096  # calls at one teacher: more than any takes
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}  # of a time, in seconds


def _seconds(value: object) -> object:
    """A time as people write it, 90m or 8h, in seconds."""
    if not isinstance(value, str):
        return value
    if len(value) > 40 or not TIME.fullmatch(value.strip()):
        raise ValueError("give a time as 90m, 1h30m or 2d")
    return sum(float(part["number"]) * UNITS[part["unit"]] for part in TIME_PART.finditer(value))


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Money = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]  # US dollars


class SamplingOptions(BaseModel):
    """`[sampling.ROLE]` of an `evol.toml`. What is not given keeps its default; "unset" leaves it to the server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | Literal["unset"] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | Literal["unset"] | None = None
    top_k: Count | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    stop: list[Annotated[str, Field(min_length=1)]] = []
    enable_thinking: bool | None = None

    def over(self, default: Sampling) -> Sampling:
        """The default with these options laid over it."""

        def chosen(option: float | str | None, otherwise: float | None) -> float | None:
            if option is None:
                return otherwise
            return None if isinstance(option, str) else option

        return Sampling(
            self.max_tokens or default.max_tokens,
            chosen(self.temperature, default.temperature),
            chosen(self.top_p, default.top_p),
            self.top_k,
            self.min_p,
            self.repeat_penalty,
            self.seed,
            tuple(self.stop),
            self.enable_thinking,
        )


class Recipe(BaseModel):
    """All that a run is told. Field names are those of the flags and of `evol.toml`.

    `words` is the budget (least, most) of an in-depth step, None for the pack's own. `concurrency`, `rpm` and `tpm` cap
    the calls at once, the calls and the tokens a minute, at each teacher. `timeout` is in seconds for one call, None
    for the teacher's own. `tries` counts the first one. `patience` is in seconds, for a teacher that is down.
    `max_calls`, `max_tokens` and `max_cost` (US dollars) are for the whole run, `max_time` (seconds) for this process.
    `prices` are US dollars for a million tokens of prompts and of replies, by model; `price_in` and `price_out` those
    of a model whose price is not known. `keys` says which environment variable holds the key of which host. `local` is
    how a model on this machine is run.
    """

    # A key may have been written in the place of any option: pydantic is not to repeat what it refuses.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    seed: Path
    out: Path | None = None
    limit: Count | None = None
    strict: bool = False
    rounds: Annotated[int, Field(ge=0, le=1000)] = 4
    templates: str = "wizardlm"
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    words: tuple[Annotated[int, Field(ge=0)], Count] | None = None
    teacher: str | None = None
    evolver: str | None = None
    judge: str | None = None
    responder: str | None = None
    scorer: str | None = None
    sampling: dict[Role, SamplingOptions] = {}
    keys: dict[str, Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]] = {}
    concurrency: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] | Literal["auto"] = "auto"
    rpm: Positive | None = None
    tpm: Positive | None = None
    tries: Count = 5
    timeout: Positive | None = None
    patience: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 600.0
    max_calls: Count | None = None
    max_tokens: Count | None = None
    max_cost: Annotated[Decimal, Field(gt=0, allow_inf_nan=False)] | None = None
    max_time: Annotated[Positive, BeforeValidator(_seconds)] | None = None
    price_in: Money | None = None
    price_out: Money | None = None
    prices: dict[str, tuple[Money, Money]] = {}
    local: LocalOptions = LocalOptions()
    random_seed: int = 42
    sample: Count | None = None
    reanswer_seeds: bool = False
    score_seeds: bool = False
    judge_by_probability: bool = False

    @field_validator("seed", "out")
    @classmethod
    def _is_utf8(cls, path: Path | None) -> Path | None:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise ValueError("the name is not UTF-8: give the file another") from error
        if path is not None and (not str(path).isprintable() or printable(str(path)) != str(path)):
            raise ValueError("the name holds control characters: give the file another")
        return path

    @field_validator("keys")
    @classmethod
    def _keys_are_named(cls, keys: dict[str, str]) -> dict[str, str]:
        if any(is_no_variable(name) for name in keys.values()):
            raise ValueError("this looks like a key: name the environment variable that holds it")
        return keys

    @field_validator("words")
    @classmethod
    def _words_in_order(cls, words: tuple[int, int] | None) -> tuple[int, int] | None:
        if words and words[0] > words[1]:
            raise ValueError("the least is more than the most")
        return words

    @property
    def folder(self) -> Path:
        """Where the run lives: `out`, else a folder of outputs/ named after the seed file."""
        return self.out or Path("outputs") / (self.seed.stem if self.seed.stem.strip(".") else "seeds")

    def spec(self, role: Role) -> str | None:
        """The teacher named for this role."""
        own: str | None = getattr(self, role)
        return own or self.teacher

    def sampling_of(self, role: Role) -> Sampling:
        """How this role's replies are drawn."""
        options = self.sampling.get(role)
        return options.over(SAMPLING[role]) if options else SAMPLING[role]

    def roles(self) -> tuple[Role, ...]:
        """The roles that this run needs a teacher for."""
        return tuple(role for role in ROLES if role != "scorer" or self.score_seeds)

    def check_teachers(self) -> None:
        """Raises `UsageError` where a role has no teacher, or one that nobody knows."""
        for role in self.roles():
            spec = self.spec(role)
            if spec is None:
                choices = "\n".join(f"  --teacher {name:18} {meaning}" for name, meaning in TEACHER_KINDS.items())
                raise UsageError(
                    f"no teacher is named, and there is no {FILE_NAME} here that names one. The choices:\n{choices}\n"
                    f'One of them as `teacher = "..."` in {FILE_NAME} is taken when none is named.'
                )
            parse_spec(spec)
        self._check_local()

    def check_local_is_meant(self, options: Iterable[str]) -> None:
        """Raises `UsageError` where these options of `[local]` would be passed over: no model is run here."""
        if not self._local_models():
            flag = FLAGS.get(first := next(iter(options)), first).replace("_", "-")
            raise UsageError(
                f"--{flag} is for models that evol runs itself (local:FILE.gguf), and none is named; "
                "a server has settings of its own for that"
            )

    def _local_models(self) -> set[tuple[str, str]]:
        specs = [parse_spec(self.spec(role) or "demo") for role in self.roles()]
        return {spec.identity for spec in specs if isinstance(spec, LocalModel)}

    def _check_local(self) -> None:
        """Raises `UsageError` where `[local]` cannot be for what it is meant for."""
        models = self._local_models()
        shared = {"--chat-template-file": self.local.chat_template_file, "`port` in [local]": self.local.port}
        for name, value in shared.items():
            if value and len(models) > 1:
                raise UsageError(f"{name} is for one local model, and this run has {len(models)}: leave it out")
        if models and self.concurrency != "auto" and (self.local.slots or 0) > self.concurrency:
            raise UsageError(
                f"--slots {self.local.slots}: no more than {self.concurrency} calls are sent at once, by --concurrency"
            )


def resolve(flags: Mapping[str, Any], file: Path | None = None) -> Recipe:
    """The recipe of these flags (None is "not given") over the options of the file, over the defaults.

    Without `file`, the `evol.toml` of the working folder is taken if there is one. Raises `UsageError`.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    flags = dict(given)
    path = file or Path(FILE_NAME)
    options = read_options(path) if file or path.is_file() else {}
    if "teacher" in given:  # who names a teacher for all does not mean the file's for some
        options = {name: value for name, value in options.items() if name not in ROLES}
    for name in ("weights", "local", "sampling"):
        if name in given:
            given[name] = _over(given[name], options.get(name))
    try:
        recipe = Recipe.model_validate(options | given)
    except ValidationError as error:
        raise UsageError(_say(error, path, flags)) from error
    if flags.get("local"):
        recipe.check_local_is_meant(flags["local"])
    return recipe


def _over(flags: Mapping[str, Any], options: object) -> object:
    """Tables of flags over those of a file, at any depth; what is no table there is left for the check to refuse."""
    if options is None:
        return dict(flags)
    if not isinstance(options, dict):
        return options
    laid = {
        name: _over(value, options.get(name)) if isinstance(value, dict) else value for name, value in flags.items()
    }
    return options | laid


def read_options(path: Path) -> dict[str, Any]:
    """The options in an `evol.toml`. Raises `UsageError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if DEEP_KEY.search(text):
            raise UsageError(f"{path}: a key of so many parts is none of evol's")
        return tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # ValueError: also bytes and numbers that cannot be read
        raise UsageError(f"{path}: not TOML: {error}") from error


def _say(error: ValidationError, path: Path, flags: Mapping[str, Any]) -> str:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if str(part) not in UNION_ARMS and not isinstance(part, int)]
    top = where[0] if where else ""
    if first["type"] == "missing" and top == "seed":
        return "no seed file: name one with --seed FILE"
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        tables: dict[str, type[BaseModel]] = {"sampling": SamplingOptions, "local": LocalOptions}
        known = tables.get(top, Recipe)
        source = f"{path}: " if path.is_file() and not _holds(flags, where) else ""
        return f"{source}no option is called `{'.'.join(where)}`; the options are: {', '.join(known.model_fields)}"
    if not _holds(flags, where):
        return f"{path}: {'.'.join(where)}: {said}"
    if top == "weights":
        return f"--weight {' '.join(where[1:])}: {said}"
    flag = FLAGS.get(where[-1], where[-1]) if top in ("sampling", "local") else top
    return f"--{flag.replace('_', '-')}: {said}"


def _holds(flags: Mapping[str, Any], where: Sequence[str]) -> bool:
    """Whether the flags are what gave the option at this path."""
    found: object = flags
    for name in where:
        if not isinstance(found, Mapping):
            return True  # the path goes on into the value of a flag
        if name not in found:
            return False
        found = found[name]
    return True
