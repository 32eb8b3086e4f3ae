"""A model in a GGUF file, served to ourselves by llama.cpp, and asked through the client of all other servers.

The server is started by the first call, so that a run which finds all its answers in the journal loads nothing. When it
crashes it is started again, as often as it does some work in between, up to a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

from evol.errors import DoesNotFit, TeacherError, Unavailable
from evol.records import NO_PRICE, Allowance, Price, Request, Sampling
from evol.teachers.base import Description
from evol.teachers.llama import LlamaServer
from evol.teachers.openai import LONGEST_TOKEN, OpenAITeacher
from evol.teachers.options import PART, LocalOptions
from evol.teachers.servers import SERVERS
from evol.teachers.slots import Slots

INSTALL = "pip install 'evol-instruct[local]'"
MAGIC = b"GGUF"
LEAST_CONTEXT = 1024  # tokens: the shipped prompts alone are some 600
LEAST_REPLY = 64  # tokens that must be left for a reply, or a prompt is not sent
CRASHES_IN_A_ROW = 3
CRASHES = 20
TRIAL = "Whatever is said here must be read by the model, whoever says it. " * 4
SAMPLES, SAMPLE_BYTES = 16, 65_536  # of a model file, for its fingerprint


class LocalTeacher:
    """One model file. At most `options.slot_count` requests are sent at once; the others wait here, like with like.

    `model` ends in a fingerprint of the file and the chat template. `timeout` is in seconds for one call. Raises
    `TeacherError` where there is no such model, no llama.cpp, or too little context for the prompts.
    """

    demo = False
    free = True
    price: Price | None = NO_PRICE
    allowance: Allowance | None = None

    def __init__(self, path: Path, options: LocalOptions, timeout: float) -> None:
        check_file(path)
        check_machine(path, options)
        self.path = path
        self.model = _name(path, options)
        self.context: int | None = None
        self.busy_with = ""
        self.notices: list[str] = []
        self._options = options
        self._timeout = timeout
        self._slots = Slots(options.slot_count)
        self._starting = asyncio.Lock()
        self._server: LlamaServer | None = None
        self._clients: list[OpenAITeacher] = []  # the last is the server's; those before it may still be in use
        self._is_checked = False
        self._crashes = 0
        self._crashes_in_a_row = 0

    async def send(self, request: Request) -> bytes:
        async with self._slots.take(request.system):
            server, client = await self._ready()
            async with self._told_of_its_end(server):
                await self._check_it_fits(client, request)
                reply = await client.send(request)
            self._crashes_in_a_row = 0
            return reply

    async def describe(self) -> Description:
        server, client = await self._ready()
        async with self._told_of_its_end(server):
            about = await client.describe()
        return replace(about, where=f"{self.path}, {self._options.slot_count} slots")

    async def close(self) -> None:
        """Ends the server. The teacher may be used again."""
        server, self._server = self._server, None
        clients, self._clients = self._clients, []
        self._slots, self._starting = Slots(self._options.slot_count), asyncio.Lock()
        try:
            for client in clients:
                await client.close()
        finally:
            if server is not None:
                await server.stop()

    async def _ready(self) -> tuple[LlamaServer, OpenAITeacher]:
        """The server and its client; started here by the first who asks, and again by the first after a crash."""
        async with self._starting:
            if self._server is not None and not self._server.is_running:
                await self._bury(self._server)
            if self._server is None:
                self._check_it_is_the_same()
                self.busy_with = f"loading {self.path.name} ({_size(self.path)})"
                try:
                    self._server = await LlamaServer.start(self.path, self._options)
                finally:
                    self.busy_with = ""
                self._clients.append(self._client_of(self._server))
                self._is_checked = False
            server, client = self._server, self._clients[-1]
            if not self._is_checked:
                async with self._told_of_its_end(server):
                    await self._learn_context(client)
                    await self._check_chat_template(client)
                self._is_checked = True
            return server, client

    def _check_it_is_the_same(self) -> None:
        """Raises `TeacherError` where the file is gone or another one by now: its replies would bear a false name."""
        check_file(self.path)
        if _name(self.path, self._options) != self.model:
            raise TeacherError(f"{self.path} has changed since the run began: put the file back that was there")

    @asynccontextmanager
    async def _told_of_its_end(self, server: LlamaServer) -> AsyncIterator[None]:
        """Whatever fails inside is `Unavailable`, and to be tried again, where it is because the server has ended."""
        try:
            yield
        except (Unavailable, TeacherError) as failure:
            if how := await server.ended():
                raise Unavailable(f"llama.cpp ended {how}") from failure
            raise

    async def _bury(self, server: LlamaServer) -> None:
        """What is left of a server that crashed is cleared away. Raises `TeacherError` where that happens too often."""
        how = await server.ended()
        await server.stop()
        self._server = None
        self._slots.forget()
        self._crashes += 1
        self._crashes_in_a_row += 1
        if self._crashes_in_a_row > CRASHES_IN_A_ROW or self._crashes > CRASHES:
            raise TeacherError(
                f"{self.path}: llama.cpp ended {how}, {self._crashes} times by now and {self._crashes_in_a_row} times "
                "without an answer in between; where memory runs out, less --context, --slots or --gpu-layers may help"
            )
        self.notices.append(f"llama.cpp ended {how} and was started again")

    def _client_of(self, server: LlamaServer) -> OpenAITeacher:
        kind = SERVERS["llama-server"]
        client = OpenAITeacher(self.path.name, server.url, server.key, self._timeout, key_variable="", server=kind)
        client.notices = self.notices
        return client

    async def _learn_context(self, client: OpenAITeacher) -> None:
        """What a request really has: not more than the model was trained for."""
        known, wanted = (await client.describe()).context, self._options.context
        if known is not None and known < wanted and self.context is None:
            self.notices.append(f"{self.path.name} has a context of {known:,} tokens by its training, not {wanted:,}")
        if known is not None and known < LEAST_CONTEXT:
            raise TeacherError(f"{self.path} has a context of {known:,} tokens: too small for the prompts")
        self.context = known

    async def _check_chat_template(self, client: OpenAITeacher) -> None:
        """Raises `TeacherError` where the template leaves out what it is given: nobody would notice in the replies."""
        alone = await client.count(Request("respond", "", TRIAL, Sampling(1)))
        both = await client.count(Request("respond", TRIAL, TRIAL, Sampling(1)))
        least = len(TRIAL) // LONGEST_TOKEN
        for role, tokens in (("user", alone), ("system", both - alone)):
            if tokens < least:
                where = self._options.chat_template_file or f"{self.path}: its chat template"
                raise TeacherError(
                    f"{where} leaves out the {role} message: give the model's own, or one like it, with "
                    "--chat-template-file"
                )

    async def _check_it_fits(self, client: OpenAITeacher, request: Request) -> None:
        """Raises `DoesNotFit` where the prompt leaves no room for a reply; the server ends a reply at the context."""
        if self.context is None:
            return
        prompt = await client.count(request)
        if self.context - prompt < LEAST_REPLY:
            is_all = self.context < self._options.context
            remedy = "the model has no more" if is_all else "raise --context and add --retry-failed"
            raise DoesNotFit(
                f"the prompt is {prompt:,} tokens long and the context {self.context:,}, which leaves too little for a "
                f"reply: {remedy}"
            )


def check_file(path: Path) -> None:
    """Raises `TeacherError` where this is no model file, as far as its first bytes tell."""
    try:
        if not path.exists():
            raise TeacherError(
                f"{path}: no such file; a model on this machine is named local:PATH/TO/MODEL.gguf, and one on the "
                "Hugging Face hub local:ORGANISATION/REPOSITORY"
            )
        if path.is_dir():
            inside = ", ".join(sorted(file.name for file in path.glob("*.gguf"))[:5])
            raise TeacherError(f"{path} is a folder: name a GGUF file{f' in it ({inside})' if inside else ''}")
        if not path.is_file():
            raise TeacherError(f"{path} is not a file that a model could be in")
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise TeacherError(f"{path}: {error.strerror or error}") from error
    if magic != MAGIC:
        raise TeacherError(f"{path} is not a GGUF file: it begins with {magic!r}, not with {MAGIC!r}")


def check_machine(name: object, options: LocalOptions) -> None:
    """Raises `TeacherError` where no model could be run with these options, whichever it is."""
    if options.context < LEAST_CONTEXT:
        raise TeacherError(
            f"a context of {options.context:,} tokens is too small for the prompts: --context {LEAST_CONTEXT} at least"
        )
    if find_spec("xllamacpp") is None:
        raise TeacherError(f"{name} needs llama.cpp, which is not installed: {INSTALL}")


def _name(path: Path, options: LocalOptions) -> str:
    return f"{path.name}#{_fingerprint(path, options.chat_template_file)}"


def _fingerprint(path: Path, template: Path | None) -> str:
    """8 hex digits of the file's size, of samples from all over it, and of the chat template instead of its own."""
    digest = blake2b(digest_size=4)
    try:
        for sample in _samples(path):
            digest.update(sample)
        if template is not None:
            digest.update(template.read_bytes())
    except OSError as error:
        raise TeacherError(f"{error.filename or path}: {error.strerror or error}") from error
    return digest.hexdigest()


def _samples(path: Path) -> Iterator[bytes]:
    for file in _files(path):
        size = file.stat().st_size
        yield str(size).encode()
        with file.open("rb") as opened:
            for number in range(SAMPLES):
                opened.seek((size - SAMPLE_BYTES) * number // (SAMPLES - 1) if size > SAMPLE_BYTES else 0)
                yield opened.read(SAMPLE_BYTES)


def _files(path: Path) -> list[Path]:
    """The file, with the other parts where the model comes in parts."""
    if not (part := PART.search(path.name)):
        return [path]
    stem = path.name[: part.start()]
    return sorted(file for file in path.parent.iterdir() if file.name.startswith(f"{stem}-") and PART.search(file.name))


def _size(path: Path) -> str:
    size = sum(file.stat().st_size for file in _files(path))
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
