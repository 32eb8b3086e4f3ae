"""What a teacher is, and how its reply is read.

A teacher returns the body of a chat completion as bytes, in the form that OpenAI's API gave the field, whoever or
whatever wrote it. The bytes are what the journal keeps; reading them is a pure function, so a better reader can be run
over replies that were paid for long ago.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Protocol

from evol.errors import AskAgain, BadReply, DoesNotFit, RequestRefused
from evol.records import Allowance, Answer, Price, Request, Token, Usage
from evol.words import one_line, well_formed

CUT = frozenset({"length", "max_tokens", "model_length"})
FORMS = 8  # in which a request is sent at the most: without each of the parameters, and without the schema
SHOWN = 200  # characters of what a server says of an error
MOST_TOKENS = 2**40  # of a call: a count above it is none
CONTEXT_MARGIN = 2  # tokens by which servers stop short of their context
BROKEN_OFF = frozenset({"abort", "error"})  # vLLM going down; OpenRouter in mid-stream
# A block of its own; one that the prompt opened, closed on a line of its own; one that never ends.
THINKING = re.compile(
    r"\A\s*<think(?:ing)?>(.*?)(?:</think(?:ing)?>\s*|\Z)|\A(.*?)^</think(?:ing)?>[ \t]*(?:\n\s*|\Z)",
    re.DOTALL | re.MULTILINE,
)


class Teacher(Protocol):
    """Whoever answers.

    `model` names it in rows and digests. `demo` says that rules wrote its replies, not a model. `context` is how many
    tokens a prompt and its reply may have together, None where that is not known. `busy_with` says what keeps it from
    answering (loading a model), and is empty otherwise. `notices` are lines for the user about what it could not take,
    and what went wrong and was mended. `free` says that its calls cost no money, so that none is waited for when a run
    is stopped. `price` is what its provider asks for, None where that is not known. `allowance` is what it last said of
    its rate limits.
    """

    model: str
    demo: bool
    free: bool
    context: int | None
    busy_with: str
    notices: list[str]
    allowance: Allowance | None

    @property
    def price(self) -> Price | None: ...

    async def send(self, request: Request) -> bytes:
        """One request, one reply: the body of a chat completion. One call that may cost money, no retries.

        Raises `CallFailed` or `TeacherError`; `AskAgain` where the next call goes out in another form.
        """
        ...

    async def describe(self) -> Description:
        """What the teacher says of itself; costs nothing. Raises as `send` does."""
        ...

    async def close(self) -> None:
        """Lets go of its connections."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """`where` it is, how it is made to reply in JSON, and its context in tokens where that is known."""

    where: str
    json_mode: str
    context: int | None = None


async def send_in_any_form(teacher: Teacher, request: Request) -> bytes:
    """As `send`, in the first form that the teacher takes. Raises `RequestRefused` where it takes none of them."""
    for _ in range(FORMS):
        try:
            return await teacher.send(request)
        except AskAgain:
            continue
    raise RequestRefused(f"{teacher.model} takes the request in none of the {FORMS} forms that were tried")


def read_completion(body: bytes) -> Answer:
    """The reply in the body of a chat completion.

    Raises `BadReply` for what is worth asking again: not JSON, no choices, no text, broken off. Raises `RequestRefused`
    where the provider's filter withheld the reply, or the model declined in the field for it.
    """
    try:
        completion = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadReply(f"the reply is not JSON: {_excerpt(body)}") from error
    choice = _first_choice(completion)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadReply("the reply's first choice has no message")
    usage = _usage(completion.get("usage"))
    finish = choice.get("finish_reason")
    if not isinstance(finish, str):
        finish = ""
    if finish in BROKEN_OFF:
        raise BadReply(f"the server broke the reply off ({finish})")
    if finish == "content_filter":
        raise RequestRefused("the provider's content filter withheld the reply")
    if message.get("refusal"):
        raise RequestRefused(f"the model declined: {_shown(message['refusal'])}")
    text, reasoning = _split_reasoning(message)
    truncated = finish in CUT
    if not text.strip() and not truncated:
        raise BadReply("the reply is empty")
    return Answer(text, reasoning, truncated, usage, _tokens(choice.get("logprobs")))


def read_usage(body: bytes) -> Usage | None:
    """What a reply of whatever kind says it has used; None where it does not say."""
    try:
        completion = json.loads(body)
    except (ValueError, RecursionError):
        return None
    usage = _usage(completion.get("usage") if isinstance(completion, dict) else None)
    return usage if usage.total else None


def check_cut(answer: Answer, max_tokens: int, context: int | None) -> None:
    """Passes a reply that ended by itself or at its cap, for a reply that was cut before is no answer.

    Raises `DoesNotFit` where the context cut it, and `BadReply` where nobody knows what did.
    """
    used = answer.usage.completion_tokens
    if not answer.truncated or not 0 < used < max_tokens:
        return
    if context is not None and answer.usage.prompt_tokens + used >= context - CONTEXT_MARGIN:
        raise DoesNotFit(
            f"the context of {context:,} tokens cut the reply after {used:,}: give more (--context for a local model) "
            "and add --retry-failed"
        )
    raise BadReply(f"the reply was cut after {used} of {max_tokens} tokens")


def completion_body(text: str, prompt: str, model: str, finish_reason: str = "stop") -> bytes:
    """The body of a chat completion for teachers that are no server; tokens are estimated at four characters each."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": len(text) // 4 + 1}
    choices = [{"index": 0, "message": message, "finish_reason": finish_reason}]
    return json.dumps({"object": "chat.completion", "model": model, "choices": choices, "usage": usage}).encode()


def _first_choice(completion: object) -> dict[str, Any]:
    choices = completion.get("choices") if isinstance(completion, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        error = completion.get("error") if isinstance(completion, dict) else None
        raise BadReply(f"the reply has no choices{f', but an error: {_shown(error)}' if error else ''}")
    return choices[0]


def _usage(usage: object) -> Usage:
    def count(name: str) -> int:
        value = usage.get(name) if isinstance(usage, dict) else None
        return value if type(value) is int and 0 < value < MOST_TOKENS else 0

    prompt, total = count("prompt_tokens"), count("total_tokens")
    # Some leave out of the completion what was thought, and count it in the total.
    return Usage(prompt, max(count("completion_tokens"), total - prompt))


def _tokens(logprobs: object) -> tuple[Token, ...]:
    """The tokens with the log-probabilities of their alternatives; none where any of it is not of the usual form."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    try:
        return tuple(
            Token(
                _token_bytes(entry), {_token_bytes(other): float(other["logprob"]) for other in entry["top_logprobs"]}
            )
            for entry in content or ()
        )
    except (TypeError, KeyError, ValueError, OverflowError):
        return ()


def _token_bytes(entry: dict[str, Any]) -> bytes:
    """A token's bytes: its text alone may hold half a character. Raises `TypeError` where it is neither."""
    given, text = entry.get("bytes") if isinstance(entry, dict) else None, entry["token"]
    if isinstance(given, list) and given:
        return bytes(given)
    if given or not isinstance(text, str):
        raise TypeError("neither bytes nor text")
    return text.encode("utf-8", "replace")


def _split_reasoning(message: dict[str, Any]) -> tuple[str, str]:
    """The text and the reasoning: servers give it as a field of its own, or in the text before a closing tag."""
    text = well_formed(_content(message.get("content")))
    field = message.get("reasoning_content") or message.get("reasoning")
    reasoning = well_formed(field) if isinstance(field, str) else ""
    if not (thinking := THINKING.match(text)):
        return text, reasoning
    thought = next((group for group in thinking.groups() if group), "").strip()
    return text[thinking.end() :], "\n\n".join(part for part in (reasoning, thought) if part)


def _content(content: object) -> str:
    """The text of a message, which some servers send in parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _shown(error: object) -> str:
    message = error.get("message", error) if isinstance(error, dict) else error
    try:
        return one_line(well_formed(str(message)), SHOWN)
    except RecursionError:
        return "nested too deeply to be shown"


def _excerpt(body: bytes) -> str:
    return repr(body[:80].decode("utf-8", "replace"))
