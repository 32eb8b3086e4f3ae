"""The HTTP client under the teachers: replies have a last byte, of which it is known how late it may come.

Whoever serves a reply decides how long it is, in what pieces it comes, and how it is packed. Here it is read up to a
bound and unpacked up to the same bound, so that neither a hundred megabytes nor a few kilobytes that unpack to them
take memory; and it must not fall silent once it has begun. How long a call may take in all is the teacher's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2
import openai

from evol.errors import BadReply, TimedOut

IDLE = 60.0  # seconds between two pieces of a body
FRAME = 1_048_576  # bytes of a reply besides its tokens
TOKEN = 64  # bytes of a token in JSON, at the most: most have four
TOKEN_WITH_PROBABILITIES = 4096  # a dozen alternatives with their bytes
LIST = 16 * FRAME  # bytes of a list of models: a provider with hundreds describes each
GZIP_OR_ZLIB, RAW_DEFLATE = 47, -15  # zlib's numbers for how its input is framed
ENCODINGS = {"gzip": (GZIP_OR_ZLIB,), "x-gzip": (GZIP_OR_ZLIB,), "deflate": (GZIP_OR_ZLIB, RAW_DEFLATE)}
STATUS_LINE = 'HTTP Request: %s %s "%s %d %s"'  # as the client logs it

longest_reply: ContextVar[int] = ContextVar("longest_reply", default=LIST)  # bytes, of the call that is being made


def longest(max_tokens: int, *, probabilities: bool) -> int:
    """Bytes that a reply of so many tokens may have."""
    return FRAME + max_tokens * (TOKEN_WITH_PROBABILITIES if probabilities else TOKEN)


def open_client(*, trust_env: bool, idle: float = IDLE) -> httpx2.AsyncClient:
    """A client whose replies are bounded by `longest_reply`.

    It follows no redirect: that would be a second call, and might take the key to another host. `trust_env` says
    whether proxies of the environment are used. Reading a reply raises `BadReply` and `TimedOut` besides the client's
    own errors.
    """

    async def bound(response: httpx2.Response) -> None:
        encoding = response.headers.pop("content-encoding", "").strip()
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream, encoding, idle)

    logging.getLogger("httpx2").addFilter(_without_reason)
    # A hook and not a transport of our own: with one, the client would pass over the proxies of the environment.
    return openai.DefaultAioHttpClient(
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        trust_env=trust_env,
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # none is kept: they would grow with every reply
        event_hooks={"response": [bound]},
    )


def _without_reason(record: logging.LogRecord) -> bool:
    """The client logs the status line, in which the last field is whatever the server likes to write."""
    if record.msg == STATUS_LINE and isinstance(record.args, tuple):
        record.args = (*record.args[:-1], "-")
    return True


class _Bounded(httpx2.AsyncByteStream):
    """The body of one reply, in one piece."""

    def __init__(self, stream: httpx2.AsyncByteStream, encoding: str, idle: float) -> None:
        self._stream = stream
        self._encoding = encoding
        self._idle = idle

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = await self._read(longest_reply.get())
        if self._encoding.lower() in ("", "identity"):
            yield body
        else:
            yield _unpacked(body, self._encoding, longest_reply.get())

    async def aclose(self) -> None:
        """Drops the connection where the body was not read to its end."""
        await self._stream.aclose()

    async def _read(self, most: int) -> bytes:
        body = bytearray()
        now = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(self._idle) as deadline:
                async for piece in self._stream:
                    body += piece
                    if len(body) > most:
                        raise _too_long(most)
                    deadline.reschedule(now() + self._idle)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise TimedOut(f"the reply stopped in the middle: nothing more of it came in {self._idle:g} s") from error
        return bytes(body)


def _unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """The body of a server that packs although it was asked not to."""
    for framing in ENCODINGS.get(encoding.lower(), ()):
        with contextlib.suppress(zlib.error):
            return _inflated(body, framing, most)
    raise BadReply(f"the reply is packed as {encoding!a}, which was not asked for, and cannot be unpacked")


def _inflated(body: bytes, framing: int, most: int) -> bytes:
    inflate = zlib.decompressobj(framing)
    content = inflate.decompress(body, most + 1)
    if len(content) > most:
        raise _too_long(most)
    if not inflate.eof:
        raise BadReply("the reply is packed and broke off before its end")
    return content


def _too_long(most: int) -> BadReply:
    return BadReply(f"the reply is longer than {most:,} bytes, which is more than its tokens can have")
