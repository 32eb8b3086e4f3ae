"""Any server that speaks OpenAI's chat completions, through the `openai` package.

The package gives the configuration, the authentication and the vocabulary of errors; its retries are off, for `ask.py`
owns them, and its response models are not built: the raw body goes to the journal. Foreign errors are translated here
and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

import aiohttp
import httpx2
import openai

from evol.errors import CallFailed, RateLimited, RequestRefused, TeacherError, Unavailable
from evol.records import Allowance, Price, Request
from evol.teachers.base import Description, read_completion
from evol.teachers.prices import known_price
from evol.teachers.servers import ANY_SERVER, Server, is_here

QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
NO_SCHEMA_STATUSES = frozenset({400, 422})  # how servers say that they take no JSON schema, unless they fail on it
RENAMED = {"max_tokens": "max_completion_tokens"}  # OpenAI's reasoning models know only the second
DROPPABLE = frozenset({"temperature", "top_p", "logprobs", "top_logprobs"})  # ... and no sampling but their own
PATIENCE = 10.0  # seconds for a list of models: whoever has none is asked without it
MESSAGE_SHOWN = 300  # characters of what a server says
FAILURES_BEFORE_PLAIN = 2  # of one request with a schema, by a status that may be chance
TOP_LOGPROBS = 12  # alternatives for a token: ten digits and some room; a reply of text with them is some 60 KB
LONGEST_TOKEN = 8  # bytes of UTF-8, on the average of a prompt: beyond it the server has not read all of it
CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window", "n_ctx")


class _Refused(Exception):
    """An error status that another form of the request may avoid; where none does, `outcome` is raised."""

    def __init__(self, status: int, parameter: str | None, outcome: RequestRefused | Unavailable) -> None:
        super().__init__(str(outcome))
        self.status = status
        self.parameter = parameter or ""
        self.outcome = outcome


class OpenAITeacher:
    """One model at one base URL.

    What the server turns out not to take is remembered for the run: a JSON schema (then replies are read from plain
    text), the name `max_tokens`, sampling parameters. `notices` says so, a line each. `takes_schema` is None until the
    first reply to a request with a schema.
    """

    demo = False
    free = False
    busy_with = ""

    def __init__(
        self, model: str, url: str, key: str, timeout: float, *, key_variable: str, server: Server = ANY_SERVER
    ) -> None:
        self.model = model
        self.url = url
        self.context: int | None = None
        self.allowance: Allowance | None = None
        self.notices: list[str] = []
        self.takes_schema: bool | None = None if server.schema else False
        self._server = server
        self._key = key
        self._key_variable = key_variable
        self._timeout = timeout
        self._sent_as: dict[str, str] = {}  # parameter -> the name it is sent under; "" is not sent
        self._answered = False
        self._described = False
        self._schema_failures: Counter[bytes] = Counter()  # by request, until the first success
        self._client: openai.AsyncOpenAI | None = None

    @cached_property
    def price(self) -> Price | None:
        """From the list that comes with evol, by the address and the model's name."""
        return known_price(self.model, self.url)

    async def send(self, request: Request) -> bytes:
        if self._server.url and not self._described:
            self.context = (await self.describe()).context
        try:
            if request.schema is None or self.takes_schema is False:
                return await self._post(request, with_schema=False)
            return await self._with_schema(request)
        except _Refused as refused:
            raise refused.outcome from refused

    async def describe(self) -> Description:
        """The context is known where the server's list of models tells it (vLLM, llama-server, OpenRouter)."""
        json_mode = {
            True: "a JSON schema is taken",
            False: "no schema is taken, so plain text is asked for",
            None: "not tried yet",
        }[self.takes_schema]
        self._described = True
        try:
            async with asyncio.timeout(PATIENCE):
                models = await self._listed()
            own = next((m for m in models if m["id"] == self.model), models[0] if len(models) == 1 else {})
            known = own | (own.get("meta") or {})
        except (TimeoutError, CallFailed, TeacherError, TypeError, KeyError, AttributeError):
            return Description(self.url, json_mode)  # a server may answer well and list nothing
        context = next((known[name] for name in CONTEXT_FIELDS if isinstance(known.get(name), int)), None)
        return Description(self.url, json_mode, context)

    async def models(self) -> list[str]:
        """The names of the models that the server lists. Raises as `send` does."""
        return [str(model.get("id", "")) for model in await self._listed()]

    async def count(self, request: Request) -> int:
        """Tokens of the request's prompt, as a llama.cpp server counts them. Raises as `send` does."""
        body = {"model": self.model, "messages": request.messages, **self._server.parameters(request.sampling)}
        try:
            reply = await self._exchange(
                self._open().post("/chat/completions/input_tokens", cast_to=httpx2.Response, body=body)
            )
            return int(reply.json()["input_tokens"])
        except _Refused as refused:
            raise refused.outcome from refused
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{self.url} did not count the tokens of a prompt") from error

    async def close(self) -> None:
        client, self._client = self._client, None  # it may be used for another run
        if client is not None:
            await client.close()

    async def _listed(self) -> list[dict[str, Any]]:
        try:
            reply = await self._exchange(self._open().get("/models", cast_to=httpx2.Response))
            models = reply.json()["data"]
        except _Refused as refused:
            raise refused.outcome from refused
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{self.url} does not list its models") from error
        return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []

    def _open(self) -> openai.AsyncOpenAI:
        if self._client is None:
            self._client = openai.AsyncOpenAI(
                api_key=self._key or "none",
                base_url=self.url,
                max_retries=0,
                timeout=self._timeout,
                # A packed reply can be far larger than it looks, and text of this size gains little by it.
                default_headers={"Accept-Encoding": "identity"},
                http_client=openai.DefaultAioHttpClient(
                    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
                    trust_env=not is_here(self.url),  # no proxy leads to this machine itself
                ),
            )
        return self._client

    async def _with_schema(self, request: Request) -> bytes:
        try:
            reply = await self._post(request, with_schema=True)
        except _Refused as refused:
            if self.takes_schema or not self._may_be_the_schema(request, refused):
                raise
        else:
            self.takes_schema = True
            return reply
        # The same question in plain words. Only where that works is the schema what the server could not take.
        plain = await self._post(request, with_schema=False)
        if self.takes_schema is None:
            self.takes_schema = False
            self.notices.append(f"{self.model} takes no JSON schema: its judgements are read from plain text")
        return plain

    def _may_be_the_schema(self, request: Request, refused: _Refused) -> bool:
        """A refusal may be at once; a failure (5xx) may be chance, and counts when the same request meets it again."""
        if refused.status < 500:
            return refused.status in NO_SCHEMA_STATUSES
        digest = request.digest(self.model)
        self._schema_failures[digest] += 1
        return self._schema_failures[digest] >= FAILURES_BEFORE_PLAIN

    async def _post(self, request: Request, *, with_schema: bool) -> bytes:
        while True:
            body = self._body(request, with_schema=with_schema)
            try:
                # The low-level call: the package's typed one costs four times the CPU for models nobody reads.
                reply = await self._exchange(self._open().post("/chat/completions", cast_to=httpx2.Response, body=body))
            except _Refused as refused:
                if not self._adapt(refused, body):
                    raise
            else:
                self._answered = True
                content = reply.content.replace(self._key.encode(), b"[key]") if self._key else reply.content
                if self._server.prompt_cut:
                    self._check_all_was_read(request, content)
                return content

    def _body(self, request: Request, *, with_schema: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "messages": request.messages}
        self._check_nothing_is_ignored(request)
        parameters = self._server.parameters(request.sampling)
        if request.probabilities and self._sent_as.get("logprobs") != "":
            parameters |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        for name, value in parameters.items():
            if sent_as := self._sent_as.get(name, name):
                body[sent_as] = value
        if with_schema:
            schema = {"name": request.stage, "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _check_nothing_is_ignored(self, request: Request) -> None:
        for name in request.sampling.given:
            if remedy := self._server.ignored.get(name):
                raise TeacherError(f"{self.url} passes over `{name}` without a word: leave it out, and {remedy}")

    def _check_all_was_read(self, request: Request, content: bytes) -> None:
        """Raises `RequestRefused` where the tokens the server counted are too few for the prompt that it was sent."""
        try:
            read = read_completion(content).usage.prompt_tokens
        except CallFailed:
            return  # the door will say what is wrong with the reply
        size = len((request.system + request.user).encode())
        if 0 < read < size / LONGEST_TOKEN:
            raise RequestRefused(
                f"{self.url} read {read} tokens of a prompt of {size} bytes: it cuts what is longer than its context; "
                f"{self._server.prompt_cut}"
            )

    def _adapt(self, refused: _Refused, body: Mapping[str, Any]) -> bool:
        """Whether the request can be sent in another form, by what the error names as the parameter at fault."""
        name = refused.parameter
        if refused.status != 400 or name not in body:
            return False
        if name in RENAMED:
            self._sent_as[name] = RENAMED[name]
            return True
        if name in DROPPABLE:
            if name not in self._sent_as:
                self.notices.append(f"{self.model} does not take `{name}`: it is asked without")
            self._sent_as[name] = ""
            return True
        return False

    async def _exchange(self, call: Awaitable[httpx2.Response]) -> httpx2.Response:
        """The response, or our error for theirs."""
        try:
            # A deadline of our own: the client's starts anew with every byte that arrives.
            async with asyncio.timeout(self._timeout):
                return await call
        except TimeoutError as error:
            raise Unavailable(f"no reply from {self.url} in {self._timeout:g} s", billed=True) from error
        except openai.APIStatusError as error:
            raise self._status_failure(error) from error
        except openai.APIConnectionError as error:
            causes = list(_causes(error))
            unconnected = any(isinstance(cause, aiohttp.ClientConnectorError) for cause in causes)
            if not self._answered and unconnected:
                how = f" It is usually started with: {self._server.start}" if self._server.start else ""
                raise TeacherError(
                    f"cannot connect to {self.url} for {self.model}: is the server running there?{how}"
                ) from error
            why = type(causes[-1]).__name__
            raise Unavailable(f"no reply from {self.url}: {why}", billed=not unconnected) from error
        except (openai.OpenAIError, httpx2.HTTPError, aiohttp.ClientError) as error:
            raise Unavailable(self._redact(f"{type(error).__name__} from {self.url}: {error}")) from error

    def _status_failure(self, error: openai.APIStatusError) -> Exception:
        """What to do about an error status: stop the run, wait, try again, or give up the row."""
        # Redacted before it is cut: half of a key is still no business of a log.
        status, said = error.status_code, self._redact(_message(error))[:MESSAGE_SHOWN]
        if stop := self._reason_to_stop(status, error.code, said):
            return TeacherError(stop)
        if status == 429:
            return RateLimited(f"{self.url} asks to wait (429): {said}", _retry_after(error.response.headers))
        if status in (408, 409) or status >= 500:
            return _Refused(status, None, Unavailable(f"{self.url} failed ({status}): {said}"))
        return _Refused(status, error.param, RequestRefused(f"{self.url} refused the request ({status}): {said}"))

    def _reason_to_stop(self, status: int, code: str | None, said: str) -> str:
        """The message to stop the run with; empty where it may go on."""
        if status == 401:
            remedy = f"check {self._key_variable}" if self._key else f"set {self._key_variable} in the environment"
            return f"{self.url} refused the key for {self.model} (401): {remedy}"
        if status == 404:
            return f"{self.url} knows no model {self.model!r}, or is no such API (404): {said}"
        # With 403 a provider may also decline a single request; one that answers others is asked before the run stops.
        if status == 402 or (status == 403 and not self._answered) or (status == 429 and code in QUOTA_CODES):
            return f"{self.url} refused {self.model} ({status}): {said}"
        return ""

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from: the layers above the transport call a refused connection a time-out."""
    while error is not None:
        yield error
        error = error.__cause__


def _message(error: openai.APIStatusError) -> str:
    """What the server said, on one line."""
    body = error.body
    said = body.get("message") if isinstance(body, dict) else body
    return " ".join(str(said or error.message).split())


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, where the teacher says it: in milliseconds, in seconds, or as a date by its own clock."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, ValueError):
            seconds = float(headers[name]) / unit
            if math.isfinite(seconds):
                return max(0.0, seconds)
    until, now = _date(headers.get("retry-after")), _date(headers.get("date"))
    if until is None:
        return None
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def _date(text: str | None) -> datetime | None:
    """A date as HTTP writes it; None for anything else."""
    try:
        date = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
