"""Any server that speaks OpenAI's chat completions, through the `openai` package.

The package gives the configuration, the authentication and the vocabulary of errors; its retries are off, for `ask.py`
owns them, and its response models are not built: the raw body goes to the journal. Foreign errors are translated here
and nowhere else, and are not kept as causes of ours: they hold the request, and with it the key.

One `send` is one call that may cost money. What the server does not take is remembered, and the request goes out in
another form when it is asked again.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any
from urllib.parse import urljoin

import aiohttp
import httpx2
import openai

from evol.errors import (
    AskAgain,
    BadReply,
    CallFailed,
    DoesNotFit,
    RateLimited,
    RequestRefused,
    TeacherError,
    TimedOut,
    Unavailable,
)
from evol.records import Allowance, Price, Request
from evol.teachers.base import Description, read_completion
from evol.teachers.failures import DECLINED, SPENT, Fault, Then, fault_in, read_fault, then_for
from evol.teachers.headers import allowance, retry_after
from evol.teachers.keys import Secrets
from evol.teachers.prices import known_price
from evol.teachers.servers import ANY_SERVER, OPENAI_URL, Server, is_here
from evol.teachers.transport import LIST, longest, longest_reply, open_client

NO_SCHEMA_STATUSES = frozenset({400, 422})  # how servers say that they take no JSON schema, unless they fail on it
RENAMED = {"max_tokens": "max_completion_tokens"}  # OpenAI's reasoning models know only the second
DROPPABLE = frozenset({"temperature", "top_p", "logprobs", "top_logprobs"})  # ... and no sampling but their own
PATIENCE = 10.0  # seconds for a list of models: whoever has none is asked without it
MESSAGE_SHOWN = 300  # characters of what a server says
FAILURES_BEFORE_PLAIN = 2  # of one request with a schema, by a status that may be chance
TOP_LOGPROBS = 12  # alternatives for a token: ten digits and some room; a reply of text with them is some 60 KB
LONGEST_TOKEN = 8  # bytes of UTF-8, on the average of a prompt: beyond it the server has not read all of it
ASKING_TO_WAIT = frozenset({503, 529})  # statuses that may come with the seconds to wait
OUT_OF_TIME = frozenset({408, 499, 504, 522, 524})  # ... that a gateway gives up with while a model may be at work
CONTEXT_FIELDS = ("max_model_len", "context_length", "context_window", "n_ctx")
# What the layers below raise; a mistake of ours is none of it.
FOREIGN = (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError, OSError, ValueError)


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
        self._secrets = Secrets(key)
        self._timeout = timeout
        self._sent_as: dict[str, str] = {}  # parameter -> the name it is sent under; "" is not sent
        self._reached = False
        self._described = False
        self._plain_next: set[bytes] = set()  # requests whose next try is without the schema, to see if that works
        self._schema_failures: Counter[bytes] = Counter()  # by request, until the first success
        self._client: openai.AsyncOpenAI | None = None

    @cached_property
    def price(self) -> Price | None:
        """From the list that comes with evol, by the address and the model's name."""
        return known_price(self.model, self.url)

    async def send(self, request: Request) -> bytes:
        if self._server.url and not self._described:
            self.context = (await self.describe()).context
        with_schema = self._goes_with_schema(request)
        body = self._body(request, with_schema=with_schema)
        most = longest(request.sampling.max_tokens, probabilities=request.probabilities)
        # The low-level call: the package's typed one costs four times the CPU for models nobody reads.
        call = self._open().post("/chat/completions", cast_to=httpx2.Response, body=body)
        response, content = await self._exchange(call, most)
        if fault := self._fault(response, content):
            raise self._other_form(request, body, fault) or self._failure(fault, response)
        self._note_success(request, with_schema=with_schema)
        if self._server.prompt_cut:
            self._check_all_was_read(request, content)
        return content

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
        call = self._open().post("/chat/completions/input_tokens", cast_to=httpx2.Response, body=body)
        content = await self._free(call)
        try:
            return int(json.loads(content)["input_tokens"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Unavailable(f"{self.url} did not count the tokens of a prompt") from error

    async def close(self) -> None:
        client, self._client = self._client, None  # it may be used for another run
        if client is not None:
            await client.close()

    async def _listed(self) -> list[dict[str, Any]]:
        content = await self._free(self._open().get("/models", cast_to=httpx2.Response))
        try:
            models = json.loads(content)["data"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Unavailable(f"{self.url} does not list its models") from error
        return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []

    def _open(self) -> openai.AsyncOpenAI:
        if self._client is None:
            self._client = openai.AsyncOpenAI(
                api_key=self._key or "none",
                base_url=self.url,
                max_retries=0,
                timeout=self._timeout,
                default_headers=self._headers(),
                http_client=open_client(trust_env=not is_here(self.url)),  # no proxy leads to this machine itself
            )
        return self._client

    def _headers(self) -> dict[str, Any]:
        """What the package is to send and what not: for any host it takes headers from the environment, for OpenAI."""
        # A packed reply can be far larger than it looks, and text of this size gains little by it.
        own = {"Accept-Encoding": "identity", "Authorization": f"Bearer {self._key or 'none'}"}
        if self.url == OPENAI_URL:
            return own
        lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
        names = {"OpenAI-Organization", "OpenAI-Project", *(line.partition(":")[0].strip() for line in lines)}
        taken = {name.lower() for name in own}
        return own | {name: openai.Omit() for name in names if name and name.lower() not in taken}

    def _goes_with_schema(self, request: Request) -> bool:
        if request.schema is None or self.takes_schema is False:
            return False
        return bool(self.takes_schema) or not self._plain_next or _identity(request) not in self._plain_next

    def _note_success(self, request: Request, *, with_schema: bool) -> None:
        """Only where the plain form works is the schema what the server could not take."""
        if with_schema:
            self.takes_schema = True
        elif self.takes_schema is None and self._plain_next and _identity(request) in self._plain_next:
            self.takes_schema = False
            self.notices.append(f"{self.model} takes no JSON schema: its judgements are read from plain text")

    def _other_form(self, request: Request, body: Mapping[str, Any], fault: Fault) -> AskAgain | None:
        """Whether the request can be asked again in another form; which, is remembered."""
        if self._adapt(fault, body):
            return AskAgain(f"{self.model} does not take `{fault.parameter}`: it is asked again in another form")
        if "response_format" in body and self._may_be_the_schema(request, fault):
            self._plain_next.add(_identity(request))
            return AskAgain(f"{self.model} may not take a JSON schema: it is asked again in plain text")
        if self._plain_next and then_for(fault) is not Then.WAIT:
            self._plain_next.discard(_identity(request))  # it is not the schema, or nothing was learnt of it
        return None

    def _may_be_the_schema(self, request: Request, fault: Fault) -> bool:
        """A refusal may be at once; a failure (5xx) may be chance, and counts when the same request meets it again."""
        if self.takes_schema or then_for(fault) not in (Then.GIVE_UP, Then.TRY_AGAIN) or DECLINED & fault.labels:
            return False
        if fault.status < 500:
            return fault.status in NO_SCHEMA_STATUSES
        identity = _identity(request)
        self._schema_failures[identity] += 1
        return self._schema_failures[identity] >= FAILURES_BEFORE_PLAIN

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
            refused = RequestRefused(
                f"{self.url} read {read} tokens of a prompt of {size} bytes: it cuts what is longer than its context; "
                f"{self._server.prompt_cut}"
            )
            refused.billed = True
            raise refused

    def _adapt(self, fault: Fault, body: Mapping[str, Any]) -> bool:
        """Whether the request can be sent in another form, by what the error names as the parameter at fault."""
        name = fault.parameter
        if fault.status != 400 or name not in body:
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

    async def _free(self, call: Awaitable[httpx2.Response]) -> bytes:
        """The body of a reply to a call that costs nothing."""
        response, content = await self._exchange(call, LIST)
        if fault := self._fault(response, content):
            raise self._failure(fault, response)
        return content

    async def _exchange(self, call: Awaitable[httpx2.Response], most: int) -> tuple[httpx2.Response, bytes]:
        """The response, whatever its status, and its body without the key; or our error for theirs."""
        longest_reply.set(most)
        response: httpx2.Response | None = None
        failure: Exception | None = None
        try:
            # A deadline of our own: the client's starts anew with every byte that arrives.
            async with asyncio.timeout(self._timeout):
                response = await call
        except openai.APIStatusError as error:
            response = error.response
        except TimeoutError:
            failure = TimedOut(f"no reply from {self.url} in {self._timeout:g} s")
        except (BadReply, TimedOut) as error:
            failure = type(error)(f"{self.url}: {self._shown(str(error))}")
        except FOREIGN as error:
            failure = self._connection_failure(list(_causes(error)))
        if response is None:  # raised here, where theirs is no longer at hand to become its context
            raise failure or AssertionError("unreachable: a call without a response has failed")
        self._reached = True
        self.allowance = allowance(response.headers.raw)
        return response, self._secrets.hidden_in(response.content)

    def _connection_failure(self, causes: list[BaseException]) -> Exception:
        """Before the first answer, where nobody is reached, somebody must look; later it may come back by itself."""
        connecting = next((cause for cause in causes if isinstance(cause, aiohttp.ClientConnectorError)), None)
        if connecting and self._reached:
            return Unavailable(f"cannot connect to {self.url} any more ({type(connecting).__name__})")
        if connecting:
            return TeacherError(f"cannot connect to {self.url} for {self.model}: {self._why_not(connecting)}")
        if any(isinstance(cause, aiohttp.ServerTimeoutError) for cause in causes):
            return TimedOut(f"no reply from {self.url} in {self._timeout:g} s")
        return Unavailable(f"no reply from {self.url} that could be read: {type(causes[-1]).__name__}", billed=True)

    def _why_not(self, error: aiohttp.ClientConnectorError) -> str:
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            return "the proxy that the environment names does not answer; unset it, or exempt the host with NO_PROXY"
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return "there is no such host, or no network: check the address"
        if isinstance(error, aiohttp.ClientSSLError):
            return "no connection by TLS that can be trusted: check the address, and the server's certificate"
        how = f" It is usually started with: {self._server.start}" if self._server.start else ""
        return f"is the server running there?{how}"

    def _fault(self, response: httpx2.Response, content: bytes) -> Fault | None:
        """What the server says is wrong; None where it has replied. Raises `TeacherError` for a redirect."""
        status = response.status_code
        if status < 300:
            return fault_in(content)
        if status < 400:
            where = urljoin(f"{self.url}/", response.headers.get("location", ""))
            raise TeacherError(
                f"{self.url} sends its callers elsewhere ({status}), to {self._shown(where)}: name the new address in "
                "--teacher if it is to be trusted; no call is sent on, and no key"
            )
        return read_fault(status, content)

    def _failure(self, fault: Fault, response: httpx2.Response) -> Exception:
        """The exception for what is to be done about it."""
        then, said = then_for(fault), self._shown(fault.said)
        status = f"{fault.status}" if fault.status else "in place of a reply"
        if then is Then.STOP:
            return TeacherError(self._reason_to_stop(fault, said))
        if then is Then.WAIT:
            return RateLimited(f"{self.url} asks to wait ({status}): {said}", retry_after(response.headers))
        if then is Then.TRY_AGAIN:
            if fault.status in ASKING_TO_WAIT and (seconds := retry_after(response.headers)) is not None:
                return RateLimited(f"{self.url} asks to wait ({status}): {said}", seconds)
            if fault.worked:
                return BadReply(f"{self.url} failed ({status}): {said}")
            return Unavailable(f"{self.url} failed ({status}): {said}", billed=fault.status in OUT_OF_TIME)
        kind = DoesNotFit if then is Then.DOES_NOT_FIT else RequestRefused
        refused = kind(f"{self.url} refused the request ({status}): {said}")
        refused.billed = fault.worked
        return refused

    def _reason_to_stop(self, fault: Fault, said: str) -> str:
        if fault.status == 401:
            remedy = f"check {self._key_variable}" if self._key else f"set {self._key_variable} in the environment"
            return f"{self.url} refused the key for {self.model} (401): {remedy}"
        if fault.status == 404:
            return f"{self.url} knows no model {self.model!r}, or is no such API (404): {said}"
        is_spent = fault.status == 402 or bool(SPENT & fault.labels)
        remedy = (
            "what was answered is kept; add credit or raise the limit there" if is_spent else "see what the key may do"
        )
        return f"{self.url} refused {self.model} ({fault.status or 'in place of a reply'}): {said}; {remedy}"

    def _shown(self, said: str) -> str:
        """What a server says, for a message. Redacted before it is cut: half of a key is still no business of a log."""
        cut = self._secrets.hidden(said)[:MESSAGE_SHOWN]
        return "".join(letter if letter.isprintable() else "?" for letter in cut) or "without a word"


def _identity(request: Request) -> bytes:
    """Equal for all tries of one request: each is sent another seed."""
    return replace(request, sampling=replace(request.sampling, seed=None)).digest("")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from: the layers above the transport call a refused connection a time-out."""
    while error is not None:
        yield error
        error = error.__cause__
