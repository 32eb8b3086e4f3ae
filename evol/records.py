"""The nouns of evol: what the rooms hand to each other. Plain frozen values, without behaviour."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

Stage = Literal["evolve", "judge", "respond", "score"]
Role = Literal["evolver", "judge", "responder", "scorer"]

SEEDS = 2**31  # of a server's random generator: what all of them take
ROLE_OF_STAGE: Mapping[Stage, Role] = {
    "evolve": "evolver",
    "judge": "judge",
    "respond": "responder",
    "score": "scorer",
}


class Place(NamedTuple):
    """Where in a run a call stands; its text is the call's id in the journal.

    `round` is 0 for the seed itself, `attempt` tells several evolutions of one round apart, and `sample` is 1, 2, ...
    where the same question is asked again because its reply could not be read.
    """

    seed_id: str
    round: int
    stage: Stage
    attempt: int = 0
    sample: int = 0

    def __str__(self) -> str:
        return f"{self.seed_id}/{self.round}/{self.attempt}/{self.stage}/{self.sample}"


@dataclass(frozen=True, slots=True)
class Seed:
    """One instruction of the seed pool. `order` is its position in the pool, from 0."""

    id: str
    instruction: str
    input: str
    output: str
    order: int

    @property
    def text(self) -> str:
        """What is evolved: the instruction and its input, joined by a newline as the paper's authors do."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is drawn. `max_tokens` is always sent; what is None, or empty, is left to the server.

    `seed` makes draws of one server repeat as far as it can. `stop` are texts that end a reply. `enable_thinking` is
    for models whose chat template knows the word.
    """

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    enable_thinking: bool | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What is said to the server, by name."""
        # Field by field: `asdict` copies deeply, and made an eighth of the time of a resume.
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value is not None and value != ()}


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a teacher.

    `system` and `user` are the messages as sent. `stage`, `operator` and `values` say the same unrendered, for teachers
    that follow rules instead of reading prose. `schema` is the JSON schema that the reply's text must satisfy.
    `probabilities` asks for those of the reply's tokens too.
    """

    stage: Stage
    system: str
    user: str
    sampling: Sampling
    operator: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    probabilities: bool = False

    @property
    def messages(self) -> list[dict[str, str]]:
        """The messages in chat form; an empty system part is left out."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.user}]

    def digest(self, model: str) -> bytes:
        """16 bytes that are equal for two requests exactly when the same thing is asked of the same model."""
        asked = [model, self.system, self.user, self.sampling.given, self.schema, self.probabilities]
        return blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as counted by the teacher; 0 where it does not say."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    @property
    def total(self) -> int:
        """Of prompts and completions."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost, in US dollars for a million."""

    prompt: Decimal
    completion: Decimal

    def of(self, usage: Usage) -> Decimal:
        """The price of these tokens, in dollars."""
        return (self.prompt * usage.prompt_tokens + self.completion * usage.completion_tokens) / 1_000_000


NO_PRICE = Price(Decimal(0), Decimal(0))  # of what runs on this machine


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one of a teacher's rate limits: `remaining` of `limit`, whole again in `reset` seconds.

    Each is None where the teacher does not say it.
    """

    limit: float | None
    remaining: float | None
    reset: float | None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a teacher last said is left of its rate limits; None where it has none, or does not tell."""

    requests: Left | None = None
    tokens: Left | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a reply as bytes of UTF-8, and the log-probabilities of the likeliest tokens in its place."""

    text: bytes
    logprobs: Mapping[bytes, float]


@dataclass(frozen=True, slots=True)
class Answer:
    """A teacher's reply, read: its text, the reasoning kept apart from it, and whether it was cut before its end.

    `tokens` are there where their probabilities were asked for and given.
    """

    text: str
    reasoning: str = ""
    truncated: bool = False
    usage: Usage = Usage()
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a row was eliminated: a constant of `Reason`, the stage it fell at, and a line for the reader."""

    reason: str
    stage: Stage
    detail: str = ""


class Reason:
    """Every reason a row can be eliminated for; the paper's four rules are the first four."""

    NO_GAIN = "no_gain"
    HARD_TO_ANSWER = "hard_to_answer"
    DEGENERATE_RESPONSE = "degenerate_response"
    SCAFFOLD_LEAK = "scaffold_leak"
    EMPTY = "empty"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    OVER_BUDGET = "over_budget"
    UNANSWERABLE = "unanswerable"
    UNJUDGED = "unjudged"
    TEACHER_FAILED = "teacher_failed"
    REQUEST_REFUSED = "request_refused"


@dataclass(frozen=True, slots=True)
class Evolution:
    """One row of a run: a seed (round 0) or one evolution of it, kept or eliminated.

    `difficulty` runs from 1.0 to 10.0 and is None where nobody scored it. `no_gain_probability` is the judge's, None
    where it judges by verdict or its server tells no probabilities. Token counts sum the calls made for this row.
    `evolver`, `judge` and `responder` name the models at work, empty where none was; `template` is the digest of the
    operator's template. `demo` marks text that rules wrote instead of a model: not for training.
    """

    id: str
    seed_id: str
    parent_id: str
    round: int
    operator: str
    family: str
    instruction: str
    input: str = ""
    output: str = ""
    reasoning: str = ""
    difficulty: float | None = None
    no_gain_probability: float | None = None
    words_added: int = 0
    evolver: str = ""
    judge: str = ""
    responder: str = ""
    template: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    demo: bool = False
    reason: str = ""
    stage: str = ""
    detail: str = ""

    @property
    def kept(self) -> bool:
        """Whether the row is part of the dataset."""
        return not self.reason

    @property
    def text(self) -> str:
        """The instruction and its input as one text, as for `Seed.text`."""
        return f"{self.instruction}\n{self.input}" if self.input else self.instruction
