"""A fast, deterministic stand-in for a server of OpenAI's chat completions, for tests and benchmarks.

What it replies is a function of the request's body; whether a reply fails depends also on how often that body was seen,
so that another try is a fresh draw. It asks for nothing but the standard library.

    python -m benchmarks.mock_teacher --port 8000 --latency 0.2 --sigma 0.6

In a test it runs in a thread: `with MockTeacher(fault_rate=0.05) as teacher: ... teacher.url`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import TracebackType
from typing import Any

FAULTS = ("429", "500", "503", "drop", "hang", "truncated", "badjson", "nochoices", "empty", "length")
SECTION = re.compile(r"<([\w-]+)>\n(.*)\n</\1>", re.DOTALL)
WORDS = (
    "area balance canal degree effect figure garden harbour island journey kernel limit margin nature orbit pattern "
    "quarter region signal traffic union valley weather year zone anchor bridge cloud desert engine forest"
).split()


@dataclass(frozen=True)
class Call:
    """A request as it came; `seen` says how often the same body came before."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    digest: bytes
    seen: int


@dataclass(frozen=True)
class Reply:
    """What is sent back. A `fault` is one of drop, hang, truncated.

    `raw` are pieces to send as they are in place of all that, without end if need be, `pause` seconds apart.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    raw: Iterable[bytes] = ()
    pause: float = 0.0


def completion(text: str, call: Call, *, finish_reason: str = "stop") -> bytes:
    """The body of a chat completion."""
    prompt = "".join(message["content"] for message in call.body["messages"])
    usage = {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": len(text) // 4 + 1}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return json.dumps({"id": call.digest.hex(), "choices": [choice], "usage": usage}).encode()


class MockTeacher:
    """The server.

    `latency` is the mean in seconds, lognormal with a `sigma`. `trouble` is the share of unfit texts: judgements of no
    gain, evolutions that leak scaffold, responses that are sorry. `handler` replaces all of that. `models` is what the
    list of models holds.
    """

    def __init__(  # noqa: PLR0913 - the knobs of a test double
        self,
        handler: Callable[[Call], Reply] | None = None,
        *,
        models: object = ({"id": "mock"},),
        latency: float = 0.0,
        sigma: float = 0.0,
        fault_rate: float = 0.0,
        trouble: float = 0.1,
        port: int = 0,
    ) -> None:
        self.handler = handler or self._reply
        self.latency = latency
        self.sigma = sigma
        self.fault_rate = fault_rate
        self.trouble = trouble
        self.port = port
        self.models = models
        self.requests = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.seen: Counter[bytes] = Counter()
        self.served: Counter[bytes] = Counter()  # replies that were sent whole and were of use
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="mock teacher", daemon=True)
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def spec(self) -> str:
        """What to give as --teacher."""
        return f"openai:mock@{self.url}"

    def __enter__(self) -> MockTeacher:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def stats(self) -> dict[str, int]:
        """Requests, those whose body came before, and the most at once."""
        repeated = self.requests - len(self.seen)
        return {"requests": self.requests, "repeated": repeated, "max_in_flight": self.max_in_flight}

    def respond(self, connection: _Connection, path: str, headers: Mapping[str, str], raw: bytes) -> None:
        """Answers one request after its latency."""
        if path == "/v1/models":
            connection.send(Reply(body=json.dumps({"object": "list", "data": self.models}).encode()))
            return
        if path == "/stats":
            connection.send(Reply(body=json.dumps(self.stats()).encode()))
            return
        digest = blake2b(raw, digest_size=16).digest()
        call = Call(path, headers, json.loads(raw), digest, self.seen[digest])
        self.seen[digest] += 1
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        chance = random.Random(digest + call.seen.to_bytes(4, "big"))
        self._loop.call_later(self._delay(chance), self._finish, connection, call)

    def _finish(self, connection: _Connection, call: Call) -> None:
        self.in_flight -= 1
        reply = self.handler(call)
        if reply.raw:
            task = self._loop.create_task(connection.send_raw(reply))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        if reply.status == 200 and not reply.fault:
            self.served[call.digest] += 1
        connection.send(reply)

    def _delay(self, chance: random.Random) -> float:
        if not self.sigma or not self.latency:
            return self.latency
        return chance.lognormvariate(math.log(self.latency) - self.sigma**2 / 2, self.sigma)

    def _reply(self, call: Call) -> Reply:
        chance = random.Random(call.digest + call.seen.to_bytes(4, "little"))
        if chance.random() < self.fault_rate:
            return self._fault(chance.choice(FAULTS), call)
        return Reply(body=completion(self._text(call), call))

    def _fault(self, kind: str, call: Call) -> Reply:
        text = self._text(call)
        replies = {
            "429": Reply(429, b'{"error": {"message": "slow down"}}', {"retry-after": "0.05"}),
            "500": Reply(500, b'{"error": {"message": "broken"}}'),
            "503": Reply(503, b"<html>upstream</html>"),
            "drop": Reply(fault="drop"),
            "hang": Reply(fault="hang"),
            "truncated": Reply(body=completion(text, call), fault="truncated"),
            "badjson": Reply(body=b"<html>upstream</html>"),
            "nochoices": Reply(body=b'{"choices": []}'),
            "empty": Reply(body=completion("", call)),
            "length": Reply(body=completion(text[: len(text) // 2], call, finish_reason="length")),
        }
        return replies[kind]

    def _text(self, call: Call) -> str:
        """The reply's text: an object where one is asked for, a longer instruction for a section, else an answer."""
        chance = random.Random(call.digest)
        trouble = chance.random() < self.trouble
        added = " ".join(chance.choices(WORDS, k=chance.randrange(10, 19)))
        if "response_format" in call.body:
            verdict = {
                "explanation": added,
                "no_gain": trouble,
                "answerable": True,
                "difficulty": chance.randint(1, 10),
            }
            wanted = call.body["response_format"]["json_schema"]["schema"]["properties"]
            return json.dumps({name: verdict.get(name, "pear") for name in wanted})
        section = SECTION.search(call.body["messages"][-1]["content"])
        if section:
            leak = "This is the rewritten instruction. " if trouble else ""
            return f"{section[2]} {leak}Also cover {added}."
        return "Sorry, that is beyond me." if trouble else f"On {added}: {' '.join(chance.choices(WORDS, k=60))}."

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for connection in list(_Connection.alive):
                connection.close(self)
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()


class _Connection(asyncio.Protocol):
    """One connection: requests one after the other, each with a Content-Length."""

    alive: set[_Connection] = set()  # noqa: RUF012 - of all servers in the process

    def __init__(self, teacher: MockTeacher) -> None:
        self.teacher = teacher
        self.buffer = b""
        self.transport: asyncio.Transport | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.alive.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None
        self.writable.set()
        self.alive.discard(self)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def close(self, teacher: MockTeacher) -> None:
        """Ends it, if it is one of this server's."""
        if self.teacher is teacher and self.transport:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            size = int(headers.get("content-length", 0))
            if len(self.buffer) < end + 4 + size:
                return
            raw, self.buffer = self.buffer[end + 4 : end + 4 + size], self.buffer[end + 4 + size :]
            self.teacher.respond(self, first.split(" ")[1], headers, raw)

    def send(self, reply: Reply) -> None:
        """Sends the reply, or does what its fault says."""
        if self.transport is None or reply.fault == "hang":
            return
        if reply.fault == "drop":
            self.transport.abort()
            return
        lines = [f"HTTP/1.1 {reply.status} -", "content-type: application/json", f"content-length: {len(reply.body)}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if reply.fault == "truncated":
            self.transport.write(head + reply.body[: len(reply.body) // 2])
            self.transport.close()
        else:
            self.transport.write(head + reply.body)

    async def send_raw(self, reply: Reply) -> None:
        """Sends the pieces as fast as they are taken, and ends the connection."""
        for piece in reply.raw:
            await self.writable.wait()
            if self.transport is None:
                return
            self.transport.write(piece)
            await asyncio.sleep(reply.pause)
        if self.transport:
            self.transport.close()


def main() -> None:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(description="A stand-in for a server of chat completions.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="mean, in seconds")
    parser.add_argument("--sigma", type=float, default=0.0, help="of the lognormal; 0 is a fixed latency")
    parser.add_argument("--fault-rate", type=float, default=0.0)
    parser.add_argument("--trouble", type=float, default=0.1, help="share of texts that are unfit")
    options = parser.parse_args()
    with MockTeacher(**vars(options)) as teacher:
        print(teacher.url, flush=True)  # noqa: T201
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
