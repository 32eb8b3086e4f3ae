"""Template packs: find, check, draw from.

A pack is a folder with a `pack.toml` and one template per operator; `judge.j2`, `respond.j2` and `score.j2` are taken
from the shipped `shared` folder where the pack has none of its own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evol import chance
from evol.errors import TemplateError, UsageError
from evol.records import Place, Stage
from evol.shipped import shipped
from evol.templates import FIXED, OPTIONAL, VALUES, Template, file_inside, read_text
from evol.words import one_line

MAX_OPERATORS = 100
NAME_SHOWN = 100  # characters
MESSAGE_SHOWN = 200
# A key of many parts: TOML's reader takes the square of their number.
DEEP_KEY = re.compile(r"""(?<![\w"'-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){16}""")
STAGES: tuple[Stage, ...] = ("judge", "respond", "score")
TAKEN = frozenset({*FIXED, *OPTIONAL["judge"], *VALUES["evolve"]})  # names that a choice cannot have


class Operator(BaseModel):
    """One way of evolving an instruction, as `pack.toml` describes it.

    `word_limit` is how many words a child may have more than its parent before it is eliminated as `over_budget`
    (None: twice the budget of the pack and 50 more). Of each list in `choices` one value is drawn for every call.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["depth", "breadth"]
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    template: str = ""
    word_limit: Annotated[int, Field(ge=1)] | None = None
    choices: dict[str, Annotated[list[str], Field(min_length=1)]] = {}


class PackFile(BaseModel):
    """What stands in a `pack.toml`. `words` is the budget: the least and the most words one evolution adds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    words: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]
    operators: Annotated[dict[str, Operator], Field(min_length=1)]

    @model_validator(mode="after")
    def _sensible(self) -> PackFile:
        if self.words[0] > self.words[1]:
            raise ValueError("words: the least is more than the most")
        if not any(operator.weight for operator in self.operators.values()):
            raise ValueError("every operator has weight 0: nothing could be drawn")
        if taken := sorted(set(self.operators) & set(STAGES)):
            raise ValueError(f"operators.{taken[0]}: that is the name of a stage; call the operator something else")
        for name, operator in self.operators.items():
            if wrong := [choice for choice in operator.choices if choice in TAKEN or not choice.isidentifier()]:
                raise ValueError(f"operators.{name}.choices.{wrong[0]}: a template cannot use that as a variable")
        return self


class Pack:
    """A checked template pack with its word budget and weights.

    Attributes: `name`, `path`, `words` (least, most), `operators` by name, `weights` by operator name,
    `templates` by operator name and by `judge`, `respond`, `score`.
    """

    def __init__(self, path: Path, words: tuple[int, int] | None, weights: Mapping[str, float]) -> None:
        self.path = path
        self.name = path.resolve().name
        settings = _read_pack_file(path / "pack.toml")
        if len(settings.operators) > MAX_OPERATORS:
            raise TemplateError(
                f"{path / 'pack.toml'}: {len(settings.operators)} operators; at most {MAX_OPERATORS} are drawn from"
            )
        self.description = settings.description
        self.operators = settings.operators
        self.words = words or settings.words
        weighted = {name: operator.weight for name, operator in self.operators.items()} | dict(weights)
        # By name: the order of a file's sections must not decide what is drawn.
        self.weights = dict(sorted(weighted.items()))
        if unknown := sorted(set(weights) - set(self.operators)):
            raise UsageError(f"no operator `{unknown[0]}` in pack {self.name}; it has {', '.join(self.operators)}")
        if not any(self.weights.values()):
            raise TemplateError("every operator has weight 0: nothing could be drawn; give one a weight above 0")
        self.templates = {
            name: Template(file_inside(path, operator.template or f"{name}.j2"), "evolve", frozenset(operator.choices))
            for name, operator in self.operators.items()
        }
        for stage in STAGES:
            own = path / f"{stage}.j2"
            self.templates[stage] = Template(own if own.exists() else shipped("templates") / "shared" / own.name, stage)

    def word_limit(self, operator: str) -> int:
        """Words a child may have more than its parent; beyond the budget by far is out (2 x the budget + 50)."""
        return self.operators[operator].word_limit or 2 * self.words[1] + 50

    def draw(self, random_seed: int, place: Place) -> tuple[str, dict[str, str]]:
        """The operator for this place and the choices it draws."""
        name = chance.pick_weighted(self.weights, random_seed, place, "operator")
        choices = self.operators[name].choices
        return name, {key: chance.pick(options, random_seed, place, key) for key, options in choices.items()}


def load_pack(name: str, words: tuple[int, int] | None = None, weights: Mapping[str, float] | None = None) -> Pack:
    """The pack of this name, or in the folder of this path. Raises `TemplateError` where anything in it is broken."""
    known = shipped("templates") / name
    path = known if name in shipped_packs() else Path(name)
    if not is_pack(path):
        packs = ", ".join(shipped_packs())
        raise TemplateError(f"no template pack at {name}: give a folder with a pack.toml, or one of: {packs}")
    return Pack(path, words, weights or {})


def is_pack(path: Path) -> bool:
    """Whether there is a pack in this folder; in one of a name that no folder can have there is none."""
    try:
        return (path / "pack.toml").exists()
    except (OSError, ValueError):
        return False


def shipped_packs() -> list[str]:
    """The names of the packs that come with evol."""
    return sorted(path.parent.name for path in shipped("templates").glob("*/pack.toml"))


def _read_pack_file(path: Path) -> PackFile:
    text = read_text(path)
    if deep := DEEP_KEY.search(text):
        line = text.count("\n", 0, deep.start()) + 1
        raise TemplateError(f"{path}:{line}: a key of so many parts is none of a pack")
    try:
        return PackFile.model_validate(tomllib.loads(text))
    except ValidationError as error:  # a ValueError too
        first = error.errors()[0]
        where = one_line(".".join(map(str, first["loc"])), NAME_SHOWN)
        raise TemplateError(f"{path}: {where or 'pack'}: {first['msg'].removeprefix('Value error, ')}") from error
    except tomllib.TOMLDecodeError as error:
        raise TemplateError(f"{path}: not TOML: {one_line(str(error), MESSAGE_SHOWN)}") from error
    except ValueError as error:
        raise TemplateError(f"{path}: a number of more digits than are read") from error
    except RecursionError as error:
        raise TemplateError(f"{path}: nested too deeply for a pack") from error
