"""A llama.cpp server of our own: in a child process, on loopback, with a key that nobody else has.

In a process of its own, since a native crash must not end a run, and since a call into the library cannot be
interrupted. It ends when its standard input does, so it is gone however this process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from pathlib import Path

from evol.errors import TeacherError
from evol.teachers.options import LocalOptions

PROGRAM = Path(__file__).with_name("llama_child.py")
ERROR_LINE = re.compile(r"[\d.]+ E +(?P<said>.*)")  # of llama.cpp's log
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|_PROXY|CUSTOM_HEADERS", re.IGNORECASE)  # in variables' names
LINES_KEPT = 20
LONGEST_SHOWN = 300  # characters of what llama.cpp says
CHUNK = 65_536  # bytes of it at once; a line may be longer
NOTICES_ITS_END = 1.0  # seconds from a broken connection to the news that the process is gone


class LlamaServer:
    """A running server. Made by `start`; `stop` it on every way out. `url` and `key` are for the client."""

    def __init__(self, process: Process, key: str) -> None:
        self.url = ""
        self.key = key
        self._process = process
        self._first_errors: list[str] = []
        self._last_error = ""
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, model: Path, options: LocalOptions) -> LlamaServer:
        """Returns when the model is loaded. Raises `TeacherError` with what llama.cpp says where it cannot be."""
        _check_port(options.port)
        server = cls(await _run_program(), secrets.token_urlsafe(24))
        try:
            await server._load(model, options)
        except BaseException:
            await server.stop()
            raise
        return server

    @property
    def pid(self) -> int:
        """Of the process that llama.cpp runs in."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there, as far as is known."""
        return self._process.returncode is None

    async def ended(self) -> str:
        """How the process came to its end, for a sentence; empty where it is still there after a moment."""
        try:
            await asyncio.wait_for(self._process.wait(), NOTICES_ITS_END)
        except TimeoutError:
            return ""
        said = f" ({self._last_error})" if self._last_error else ""
        return _how(self._process.returncode or 0) + said

    async def stop(self) -> None:
        """Ends the process, at once, and waits for that."""
        if self._process.stdin is not None:
            self._process.stdin.close()  # what watches over the server ends with its input
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        await self._listening

    async def _load(self, model: Path, options: LocalOptions) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        template = options.chat_template_file
        told = options.model_dump(exclude={"chat_template_file"}) | {
            "model": str(model),
            "key": self.key,
            "slots": options.slot_count,
            "chat_template": _read(template) if template else "",
        }
        with contextlib.suppress(ConnectionError):  # it is gone already: the empty answer says so
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            await self._process.stdin.drain()
        address = ""
        while not address and (answer := await self._process.stdout.readline()):
            address = _address_in(answer)
        if not address:
            await self._process.wait()
            await self._listening
            if template and (fault := _fault_in(template)):
                raise TeacherError(fault)
            with_template = f" with the chat template {template}" if template else ""
            raise TeacherError(f"{model}{with_template}: llama.cpp cannot load it: {self._reason()}")
        self.url = f"{address}/v1"

    def _reason(self) -> str:
        """The first error that llama.cpp told of: those that follow come from it."""
        return next(iter(self._first_errors), "") or f"it ended {_how(self._process.returncode or 0)}"

    async def _listen(self) -> None:
        """Reads what the process says of errors, so that it never has to wait for that."""
        assert self._process.stderr is not None
        rest = b""
        while chunk := await self._process.stderr.read(CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-CHUNK:]
            for line in filter(None, map(_readable, lines)):
                if len(self._first_errors) < LINES_KEPT:
                    self._first_errors.append(line)
                self._last_error = line


async def _run_program() -> Process:
    # OpenMP's threads spin while they wait, unless told not to. `-P`: no module of the working folder is meant.
    # Whoever may look at the process finds no key in its environment: llama.cpp needs none, and has its own from us.
    inherited = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
    environment = {"OMP_WAIT_POLICY": "passive", **inherited}
    command = (sys.executable, "-P", str(PROGRAM))
    # A session of its own: an interrupt at the terminal is for evol, which then ends it.
    return await create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, start_new_session=True
    )


def _check_port(port: int) -> None:
    if not port:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise TeacherError(
                f"port {port} of this machine cannot be had ({error.strerror}): name another as `port` in [local], or "
                "leave it out, then a free one is taken"
            ) from error


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise TeacherError(f"chat template {path}: {why}") from error
    if not text.strip():
        raise TeacherError(f"chat template {path} is empty: leave it out to use the model's own")
    return text


def _address_in(line: bytes) -> str:
    """The address, where the line is the answer; other lines are of whatever else runs when Python starts."""
    try:
        return str(json.loads(line)["url"])
    except (ValueError, TypeError, KeyError):
        return ""


def _fault_in(template: Path) -> str:
    """What is wrong with a chat template that llama.cpp could not take, and in which line; empty where nothing is."""
    import jinja2

    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_read(template))
    except jinja2.TemplateSyntaxError as error:
        return f"{template}:{error.lineno}: not a chat template: {error.message}"
    return ""


def _readable(line: bytes) -> str:
    """What a line of the log says, without its time and mark, and without what a terminal would obey."""
    text = line.decode("utf-8", "replace").strip()
    match = ERROR_LINE.match(text)
    said = (match["said"] if match else text)[:LONGEST_SHOWN]
    return "".join(letter if letter.isprintable() else "?" for letter in said)


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"
