"""From the bytes of a file to its rows: JSON lines, a JSON array, or JSON objects one after the other.

The file is read as a stream: no more of it is in memory than a row and a chunk, and of a row longer than `ROW_BYTES`
its place only. Rows are cut apart before they are read, by quotes and brackets alone. So what is wrong inside of a row
spoils that row, and the next begins where its brackets close; in JSON lines, on the next line.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from evol.errors import SeedError

ROW_BYTES = 4 * 2**20  # of one row: a longer one is no instruction
CHUNK = 2**18  # bytes
NEAR_THE_END = 10  # characters: an error as close to the end of what is there is the end's fault
BOM = b"\xef\xbb\xbf"
# What a file of another kind begins with, what it is, and how it is made one that is read.
OTHER_KINDS = (
    (b"\x1f\x8b", "compressed with gzip", "unpack it (gunzip)"),
    (b"PK\x03\x04", "a zip archive, or a spreadsheet", "unpack it (unzip), or export it as JSON"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it (unzstd)"),
    (b"BZh", "compressed with bzip2", "unpack it (bunzip2)"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it (unxz)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"PAR1", "a Parquet file", "export it as JSON lines (pandas: read_parquet, to_json)"),
    (b"ARROW1", "an Arrow file", "export it as JSON lines (pandas: read_feather, to_json)"),
    (b"SQLite format 3\x00", "an SQLite database", "export it as JSON lines"),
)
# How text in other encodings begins: with a mark, or without one where its first character takes one byte in UTF-8.
OTHER_ENCODINGS = (
    (re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff|\0\0\0[^\0]|[^\0]\0\0\0"), "UTF-32"),
    (re.compile(rb"\xff\xfe|\xfe\xff|\0[^\0]|[^\0]\0"), "UTF-16"),
)
SPACE = re.compile(rb"[ \t\r\n]*+")
GAP = re.compile(rb"[ \t\r\n,]*+")  # between two rows: what is left out or too much there costs no row
STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)  # to the closing quote; what is cut off stays
INSIDE = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)  # to a bracket, or a string that is cut
BARE = re.compile(rb'(?:[^",\r\n{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)  # what is no object and no array
OPENING = re.compile(rb"[{\[]++")
LINE_END = re.compile(r"[\r\n]+[ \t]*")

Form = Literal["array", "objects", "lines"]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of a row that cannot be read: why.

    `cut_off` says that it only lacks its end. `unlike_json` says that its brackets may not be what they seem.
    """

    why: str
    cut_off: bool = False
    unlike_json: bool = False


def read_rows(path: Path) -> Iterator[tuple[str, object]]:
    """Each row of the file with where it stands ("row 3", "line 5"); `Unreadable` where it cannot be read.

    Raises `SeedError` for what is no file of text in UTF-8, and where it cannot be told where a row ends.
    """
    if "\0" in str(path):
        raise SeedError(f"{path}: no file can be called that: give the path of a seed file with --seed")
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SeedError(f"{path}: not a file but a pipe or a device: write what it gives to a file first")
            yield from _rows(path, file)
    except OSError as error:
        raise SeedError(f"{path}: {error.strerror or error}: give the path of a seed file with --seed") from error


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe that nobody writes to would be waited for without end."""
    return os.open(path, flags | os.O_NONBLOCK)


def _rows(path: Path, file: BinaryIO) -> Iterator[tuple[str, object]]:
    beginning = file.read(CHUNK)
    _check_kind(path, beginning)
    file.seek(len(BOM) if beginning.startswith(BOM) else 0)
    cutter = _Cutter(file)
    if not cutter.skip(SPACE):
        return
    form = _form(cutter.ahead)
    if form == "lines":
        file.seek(len(BOM) if beginning.startswith(BOM) else 0)
        yield from _lines(file)
    else:
        yield from _values(path, cutter, in_array=form == "array")


def _check_kind(path: Path, beginning: bytes) -> None:
    for magic, kind, remedy in OTHER_KINDS:
        if beginning.startswith(magic):
            raise SeedError(f"{path}: {kind}: {remedy} and run again")
    for pattern, name in OTHER_ENCODINGS:
        if pattern.match(beginning):
            raise SeedError(
                f"{path}: not UTF-8 but {name}: convert it (iconv -f {name} -t UTF-8 {path.name} > utf8.json)"
            )
    if beginning.startswith(b"\0"):
        raise SeedError(f"{path}: begins with NUL bytes and not with text: it was not written whole; get it again")


def _form(beginning: bytes) -> Form:
    """How rows are told apart, by the first line: on lines of their own where nothing speaks against it."""
    if beginning.startswith(b"["):
        return "array"
    if not beginning.startswith(b"{"):
        return "lines"
    text = beginning.decode("utf-8", "replace")
    first, *further = LINE_END.split(text, maxsplit=1)
    try:
        _, end = json.JSONDecoder().raw_decode(first)
    except json.JSONDecodeError as error:
        return "objects" if further and _goes_on(first, error, further[0]) else "lines"
    except (ValueError, RecursionError):
        return "lines"
    return "objects" if first[end:].lstrip()[:1] in ("{", ",") else "lines"


def _goes_on(line: str, error: json.JSONDecodeError, following: str) -> bool:
    """Whether an object of many lines begins with this one, and not an object in one line that was cut off."""
    complete = error.pos < len(line.rstrip()) or error.msg.startswith("Unterminated")
    return not complete and (following[:1] in ('"', "}", "]") or line.rstrip()[-1] in ":[")


def _lines(file: BinaryIO) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(_split_lines(file), 1):
        if line is None:
            yield f"line {number}", _too_long()
        elif line.strip():
            bare = line.rstrip(b"\r\n")
            row = _read(bare)
            if bare == line and isinstance(row, Unreadable):  # the last line, and it does not end
                row = _is_it_complete(row)
            yield f"line {number}", row


def _split_lines(file: BinaryIO) -> Iterator[bytes | None]:
    """The lines with their ends (LF, CR LF or CR alone); None for one that is too long."""
    rest, too_long = b"", False
    while chunk := file.read(max(CHUNK, len(rest))):
        *lines, rest = (rest + chunk).splitlines(keepends=True)
        if rest.endswith(b"\n"):  # after a CR there may be a LF
            lines.append(rest)
            rest = b""
        for line in lines:
            yield None if too_long or len(line) > ROW_BYTES else line
            too_long = False
        if len(rest) > ROW_BYTES:
            rest, too_long = rest[-1:], True
    if rest or too_long:
        yield None if too_long else rest


@dataclass(frozen=True, slots=True)
class _Cut:
    """A row as it was cut out: None where it is too long. `closed` says that it did not end with the file."""

    content: bytes | None
    line: int
    byte: int
    closed: bool


class _Cutter:
    """Goes through a file chunk by chunk: `_at` is where in the chunk."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._chunk, self._at = b"", 0
        self._byte, self._line = file.tell(), 1
        self._row: list[bytes] = []
        self._row_bytes = 0

    @property
    def ahead(self) -> bytes:
        """What is read already and not passed over."""
        return self._chunk[self._at :]

    def skip(self, what: re.Pattern[bytes]) -> bool:
        """Passes over what the pattern takes; False at the end of the file."""
        while True:
            self._pass(_end(what, self._chunk, self._at))
            if self._at < len(self._chunk):
                return True
            if not self._read_on():
                return False

    def passed(self, byte: bytes) -> bool:
        """Whether this byte comes next, which is passed over then."""
        found = self._chunk.startswith(byte, self._at)
        self._pass(self._at + found)
        return found

    def cut(self) -> _Cut:
        """The row that begins here."""
        line, byte = self._line, self._byte
        self._row, self._row_bytes = [], 0
        closed = self._walk(INSIDE if OPENING.match(self._chunk, self._at) else BARE)
        content = b"".join(self._row) if self._row_bytes <= ROW_BYTES else None
        self._row = []
        return _Cut(content, line, byte, closed)

    def _walk(self, between: re.Pattern[bytes]) -> bool:
        """Goes to the end of the row; False where the file ends before it."""
        depth, quoted, begun = 0, False, False
        at = self._at
        while True:
            at = _end(STRING if quoted else between, self._chunk, at)
            byte = self._chunk[at : at + 1]
            if not byte or byte == b"\\":
                self._take(at)
                begun = True
                if not self._read_on():
                    self._take(len(self._chunk))
                    return between is BARE and not quoted
                at = 0
            elif byte == b'"':
                quoted = not quoted
                at += 1
            elif between is BARE:
                self._take(at if begun or at > self._at else at + 1)
                return True
            else:
                at, depth = self._count(at, depth)
                if not depth:
                    self._take(at)
                    return True

    def _count(self, at: int, depth: int) -> tuple[int, int]:
        """Past the brackets that open here, or the one that closes, and how many are open then."""
        opened = _end(OPENING, self._chunk, at) - at
        return (at + opened, depth + opened) if opened else (at + 1, depth - 1)

    def _take(self, end: int) -> None:
        """What comes before `end` is part of the row, which is let go once it is too long."""
        self._row_bytes += end - self._at
        if self._row_bytes <= ROW_BYTES:
            self._row.append(self._chunk[self._at : end])
        else:
            self._row.clear()
        self._pass(end)

    def _pass(self, end: int) -> None:
        self._byte += end - self._at
        self._line += self._chunk.count(b"\n", self._at, end)
        self._at = end

    def _read_on(self) -> bool:
        read = self._file.read(CHUNK)
        self._chunk, self._at = self.ahead + read, 0
        return bool(read)


def _end(pattern: re.Pattern[bytes], text: bytes, start: int) -> int:
    match = pattern.match(text, start)
    return match.end() if match else start


def _values(path: Path, cutter: _Cutter, *, in_array: bool) -> Iterator[tuple[str, object]]:
    """The rows between the brackets of an array, or to the end of the file."""
    if in_array:
        cutter.passed(b"[")
    number, more = 0, cutter.skip(GAP)
    while more:
        if in_array and cutter.passed(b"]"):
            if cutter.skip(SPACE):
                raise SeedError(f"{path}: more stands after the array's end, behind row {number}: make it one array")
            return
        number += 1
        cut = cutter.cut()
        more = cutter.skip(GAP)
        where = f"row {number}" if in_array else f"line {cut.line}"
        row = _too_long() if cut.content is None else _read(cut.content)
        if isinstance(row, Unreadable) and not more and (not cut.closed or (in_array and row.unlike_json)):
            row = _last(f"{path}: {where}", cut, row)
        yield where, row
    if in_array and (not number or cut.closed):
        yield "end of the file", Unreadable("the array is not closed; is the file complete?")


def _last(where: str, cut: _Cut, row: Unreadable) -> Unreadable:
    """A row that the end of the file cuts off. Raises `SeedError` where it is not the end that is wrong."""
    if not row.cut_off:
        raise SeedError(
            f"{where} (line {cut.line}, byte {cut.byte}): {row.why}: it has no end, so that the rows after it cannot "
            "be told apart; correct it and run again"
        )
    return _is_it_complete(row)


def _is_it_complete(row: Unreadable) -> Unreadable:
    return Unreadable(f"{row.why}; is the file complete?", row.cut_off)


def _too_long() -> Unreadable:
    return Unreadable(f"longer than {ROW_BYTES // 2**20} MiB")


def _read(content: bytes) -> object:
    """The row's value. A name that stands twice in it leaves open which is meant."""
    try:
        text = content.decode()
        return DECODER.decode(text)
    except UnicodeDecodeError as error:
        return Unreadable(
            f"not UTF-8 (byte {error.start + 1} of the row is 0x{content[error.start]:02x}): save the file as UTF-8",
            error.reason == "unexpected end of data",
        )
    except json.JSONDecodeError as error:
        if "\0" in text:
            return Unreadable("not JSON: NUL bytes stand in it")
        cut_off = error.msg.startswith("Unterminated") or error.pos >= len(text) - NEAR_THE_END
        return Unreadable(f"not JSON: {error.msg} (character {error.pos + 1} of the row)", cut_off, unlike_json=True)
    except RecursionError:
        return Unreadable("not JSON: nested too deeply")
    except ValueError:
        return Unreadable("not JSON: a number of more digits than are read")


def _named_once(pairs: list[tuple[str, object]]) -> object:
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
    return Unreadable(f"`{twice}` stands in it more than once, which leaves open what is meant")


DECODER = json.JSONDecoder(object_pairs_hook=_named_once)
