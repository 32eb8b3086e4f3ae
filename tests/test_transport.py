"""Servers that send what no client wants: each is left with a clear message, in time, and with bounded memory."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import sys
import time
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.mock_teacher import Call, MockTeacher, Reply, completion
from evol.errors import BadReply, CallFailed, TimedOut, Unavailable
from evol.records import Request, Sampling
from evol.teachers import read_completion
from evol.teachers.openai import OpenAITeacher
from evol.teachers.transport import FRAME, TOKEN, open_client

PLAIN = Request("respond", "Be kind.", "Say hello.", Sampling(64))
MOST = FRAME + 64 * TOKEN
CHUNKED = b"HTTP/1.1 200 -\r\ntransfer-encoding: chunked\r\n\r\n"
PIECE = b"x" * 65_536
CHUNK = b"10000\r\n" + PIECE + b"\r\n"
TIMEOUT = 0.7  # seconds; a deadline that has to be waited for
BODY = completion("hello", Call("", {}, {"messages": []}, b"", 0))


def sized(size: int, *pieces: bytes) -> list[bytes]:
    """A response that promises so many bytes, and sends these."""
    return [b"HTTP/1.1 200 -\r\ncontent-length: %d\r\n\r\n" % size, *pieces]


def packed(encoding: str, content: bytes) -> Reply:
    return Reply(body=content, headers={"content-encoding": encoding})


def endless(*pieces: bytes) -> Iterable[bytes]:
    return itertools.chain(pieces[:-1], itertools.repeat(pieces[-1]))


def raw_deflate(content: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(content) + deflate.flush()


async def ask(reply: Reply, request: Request = PLAIN, seconds: float = TIMEOUT) -> bytes:
    with MockTeacher(lambda _: reply) as server:
        teacher = OpenAITeacher("mock", server.url, "", seconds, key_variable="K")
        try:
            return await teacher.send(request)
        finally:
            await teacher.close()


@pytest.mark.parametrize(
    ("reply", "expected", "says"),
    [
        pytest.param(Reply(raw=sized(100_000_000, *[PIECE] * 1600)), BadReply, f"{MOST:,} bytes", id="100 MB"),
        pytest.param(Reply(raw=endless(CHUNKED, CHUNK)), BadReply, f"{MOST:,} bytes", id="chunks without end"),
        pytest.param(Reply(status=500, raw=endless(CHUNKED, CHUNK)), BadReply, "bytes", id="an error without end"),
        pytest.param(Reply(raw=endless(b"HTTP/1.1 200 -\r\n\r\n", PIECE)), BadReply, "bytes", id="no length, no end"),
        pytest.param(Reply(raw=endless(CHUNKED, b"1\r\nx\r\n"), pause=0.01), TimedOut, "0.7 s", id="dripping"),
        pytest.param(
            Reply(raw=endless(b"HTTP/1.1 200 -\r\n", b"a: b\r\n"), pause=0.05), TimedOut, "0.7 s", id="headers"
        ),
        pytest.param(Reply(raw=endless(b"HTTP/1.1 102 -\r\n\r\n" * 9), pause=0.001), TimedOut, "0.7 s", id="1xx storm"),
        pytest.param(Reply(raw=[*sized(9, b"x")], pause=60), TimedOut, "0.7 s", id="silence in the body"),
        pytest.param(Reply(raw=[b"HTTP/1.1 200 -\r\n"], pause=60), TimedOut, "0.7 s", id="silence in the head"),
        pytest.param(Reply(raw=[b"HTTP/1.1 200 -\r\na: ", b"x" * 99_999]), Unavailable, "read", id="one long header"),
        pytest.param(Reply(raw=[b"HTTP/1.1 200 -\r\n", b"a: b\r\n" * 9999]), Unavailable, "read", id="many headers"),
        pytest.param(Reply(raw=[b"\x16\x03\x01\x02\x00" * 99]), Unavailable, "read", id="no HTTP"),
        pytest.param(Reply(raw=[CHUNKED + b"zz\r\n"]), Unavailable, "read", id="no chunk"),
        pytest.param(Reply(raw=[CHUNKED + b"f" * 99 + b"\r\n"]), Unavailable, "read", id="a chunk of any size"),
        # Here it depends on which came together whether the client notices, or has to be timed out.
        pytest.param(Reply(raw=[CHUNKED, b"zz\r\n"], pause=0.1), Unavailable, "no reply", id="no chunk, later"),
        pytest.param(Reply(raw=sized(99, b"x")), Unavailable, "read", id="less than promised"),
        pytest.param(Reply(raw=[b"HTTP/1.1 200 -\r\ncontent-length: -5\r\n\r\n"]), Unavailable, "read", id="-5 bytes"),
        pytest.param(packed("gzip", gzip.compress(b"x" * 100_000_000)), BadReply, f"{MOST:,} bytes", id="gzip bomb"),
        pytest.param(packed("deflate", zlib.compress(b"x" * 9_999_999)), BadReply, "bytes", id="deflate bomb"),
        pytest.param(packed("gzip", gzip.compress(BODY)[:-9]), BadReply, "broke off", id="half a gzip"),
        pytest.param(packed("gzip", b"x" * 99), BadReply, "'gzip'", id="no gzip"),
        pytest.param(packed("br", b"x" * 99), BadReply, "'br'", id="brotli"),
        pytest.param(packed("gzip, gzip", gzip.compress(BODY)), BadReply, "'gzip, gzip'", id="twice"),
        pytest.param(packed("\x1b[2J" + "x" * 999, b""), CallFailed, "", id="an encoding for the terminal"),
    ],
)
def test_a_hostile_reply_is_one_failed_call(reply: Reply, expected: type[CallFailed], says: str) -> None:
    started = time.monotonic()
    with pytest.raises(expected) as failure:
        read_completion(asyncio.run(ask(reply)))
    assert says in str(failure.value)
    assert str(failure.value).isprintable()
    assert time.monotonic() - started < 2 * TIMEOUT + 2  # two noisy cores
    assert failure.value.billed


@pytest.mark.parametrize(
    "reply",
    [
        packed("gzip", gzip.compress(BODY)),
        packed("x-gzip", gzip.compress(BODY)),
        packed("GZip", gzip.compress(BODY)),
        packed("deflate", zlib.compress(BODY)),
        packed("deflate", raw_deflate(BODY)),
        packed("identity", BODY),
        Reply(raw=[CHUNKED, *(b"1\r\n%c\r\n" % byte for byte in BODY), b"0\r\n\r\n"]),
        Reply(raw=[b"HTTP/1.1 100 -\r\n\r\n" * 3, *sized(len(BODY), BODY)]),
        Reply(raw=[b"HTTP/1.0 200 -\r\n\r\n", BODY]),
    ],
)
def test_an_unusual_reply_is_read_all_the_same(reply: Reply) -> None:
    assert read_completion(asyncio.run(ask(reply, seconds=10))).text == "hello"


def test_a_reply_may_be_as_long_as_its_tokens_and_their_probabilities() -> None:
    long = Reply(body=BODY.ljust(MOST))
    assert asyncio.run(ask(long, seconds=10))
    longer = Reply(body=BODY.ljust(MOST + 1))
    assert asyncio.run(ask(longer, replace(PLAIN, probabilities=True), seconds=10))
    with pytest.raises(BadReply, match="longer than"):
        asyncio.run(ask(longer, seconds=10))


def test_a_reply_that_falls_silent_is_not_waited_for_until_the_end() -> None:
    async def get(url: str) -> None:
        async with open_client(trust_env=False, idle=0.2) as client:
            await client.post(f"{url}/chat/completions", json={}, timeout=60)

    with (
        MockTeacher(lambda _: Reply(raw=sized(9, b"x"), pause=60)) as server,
        pytest.raises(TimedOut, match=r"nothing more of it came in 0\.2 s"),
    ):
        asyncio.run(get(server.url))


def test_a_reply_that_takes_its_time_piece_by_piece_is_waited_for() -> None:
    async def get(url: str) -> bytes:
        async with open_client(trust_env=False, idle=0.3) as client:
            return (await client.post(f"{url}/chat/completions", json={}, timeout=60)).content

    with MockTeacher(lambda _: Reply(raw=sized(8, *[b"x"] * 8), pause=0.1)) as server:
        assert asyncio.run(get(server.url)) == b"x" * 8


def test_what_a_server_wants_to_be_remembered_is_not() -> None:
    seen: list[Call] = []

    def handle(call: Call) -> Reply:
        seen.append(call)
        return Reply(body=completion("hello", call), headers={"set-cookie": "a=b; Path=/"})

    async def send(url: str) -> None:
        teacher = OpenAITeacher("mock", url, "", 10, key_variable="K")
        for _ in range(2):
            await teacher.send(PLAIN)
        await teacher.close()

    with MockTeacher(handle) as server:
        asyncio.run(send(server.url))
    assert "cookie" not in seen[1].headers


def test_a_call_that_is_cancelled_is_cancelled_and_not_late() -> None:
    async def cancel() -> None:
        task = asyncio.create_task(ask(Reply(raw=sized(9, b"x"), pause=60), seconds=60))
        await asyncio.sleep(0.3)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())


MEMORY = """
import asyncio, sys
from pathlib import Path
from evol.errors import BadReply
from evol.records import Request, Sampling
from evol.teachers.openai import OpenAITeacher

async def main():
    teacher = OpenAITeacher("mock", sys.argv[1], "", 60, key_variable="K")
    requests = [Request("respond", "", f"Say {number}.", Sampling(2048)) for number in range(64)]
    failures = await asyncio.gather(*map(teacher.send, requests), return_exceptions=True)
    assert all(type(failure) is BadReply for failure in failures), failures
    await teacher.close()

asyncio.run(main())
print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])  # KiB, the most so far
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to look into")
def test_many_endless_replies_at_once_take_little_memory() -> None:
    async def run(url: str) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MEMORY, url, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        return int(said)

    with MockTeacher(lambda _: Reply(raw=sized(100_000_000, *[PIECE] * 1526))) as server:
        megabytes = asyncio.run(run(server.url)) * 1024 / 1e6
    assert megabytes < 300
