"""SQLite's file format, read page by page: for a database that SQLite itself gives up on.

A page of a table's leaves (https://www.sqlite.org/fileformat2.html, 1.6) holds cells, a cell the begin of a record, and
what does not fit follows in a chain of overflow pages. A page may be there in several versions: in the frames of the
write-ahead log (4.1), newest last, in the file itself, and in frames that are left from before. Nothing is believed
here: whoever reads a record must know by a checksum of its own that it is right.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

TABLE_LEAF = 0x0D
OTHER_TREE_PAGES = {0x02: 12, 0x05: 12, 0x0A: 8}  # with the bytes of their headers
FILE_HEADER = 100  # bytes at the begin of page 1
LOG_HEADER, FRAME_HEADER = 32, 24  # bytes
USUAL_SIZE = 4096
INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # bytes by serial type
MOST_PAGES = 2**24  # of a file that was truncated, and nobody knows how large it was
DETOURS = 4000  # links of other versions that are tried for one chain, beyond its length

Value = int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class Cell:
    """A record in a leaf: its begin, its bytes in all, and the number of the first page of the rest (0 for none)."""

    begin: bytes
    size: int
    overflow: int


class Pages:
    """All versions of all pages of a database and its log, for one size of a page. Use it with `with`.

    `reserved` are the bytes at the end of each page that are not SQLite's. Raises `OSError`.
    """

    def __init__(self, path: Path, size: int, reserved: int) -> None:
        self.size = size
        self.usable = size - reserved
        self._open = ExitStack()
        self._file = self._descriptor(path)
        self._log = self._descriptor(path.with_name(path.name + "-wal"))
        self._in_file = _length(self._file) // size
        frames = max(0, _length(self._log) - LOG_HEADER) // (FRAME_HEADER + size)
        self._newest, self._left = self._order(frames)
        self._frames_of: dict[int, list[int]] = {}
        for frame, number in (*self._newest, *self._left):
            self._frames_of.setdefault(number, []).append(frame)
        self._current = {frame for frame, _ in self._newest}
        self._count = max([self._in_file, *self._frames_of])

    def __enter__(self) -> Pages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def every(self) -> Iterator[tuple[int, bytes]]:
        """Every version of every page with its number: those in the log first, newest first."""
        for frame, number in self._newest:
            yield number, self._of_frame(frame)
        for number in range(1, self._in_file + 1):
            yield number, self._of_file(number)
        for frame, number in self._left:
            yield number, self._of_frame(frame)

    def versions(self, number: int) -> Iterator[bytes]:
        """The versions of one page, newest first, each once."""
        seen: set[bytes] = set()
        frames = self._frames_of.get(number, [])
        for frame in (frame for frame in frames if frame in self._current):
            yield from _once(self._of_frame(frame), seen)
        if 0 < number <= self._in_file:
            yield from _once(self._of_file(number), seen)
        for frame in (frame for frame in frames if frame not in self._current):
            yield from _once(self._of_frame(frame), seen)

    def records(self, cell: Cell) -> Iterator[bytes]:
        """What the cell's record may be, whole: for each way through the versions of its overflow pages."""
        if not cell.overflow:
            yield cell.begin
            return
        steps = self._steps(cell)
        trail: list[bytes] = []
        choices = [self._links(cell.overflow, last=steps == 1)]
        for _ in range(2 * steps + DETOURS):
            link = next(choices[-1], None)
            if link is not None and len(choices) == steps:
                yield b"".join((cell.begin, *trail, link[1]))[: cell.size]
            elif link is not None:
                trail.append(link[1])
                choices.append(self._links(link[0], last=len(choices) + 1 == steps))
            else:
                choices.pop()
                if not choices:
                    return
                trail.pop()

    def unreadable(self) -> int:
        """How many pages, as they are now, are neither of a tree nor of a record's rest nor free."""
        strange: set[int] = set()
        reached = bytearray(self._count + 1)
        beyond = sorted(number for number in self._frames_of if number > self._in_file)
        for number in (*range(1, self._in_file + 1), *beyond):
            page = next(self.versions(number), b"")
            cells = leaf_cells(page, number, self.usable)
            if cells is None and not _is_other_tree_page(page, number):
                strange.add(number)
            for cell in cells or ():
                self._mark(cell, reached)
        self._mark_free(reached)
        return sum(not reached[number] for number in strange)

    def _mark(self, cell: Cell, reached: bytearray) -> None:
        number, steps = cell.overflow, self._steps(cell) if cell.overflow else 0
        for step in range(steps):
            link = next(self._links(number, last=step + 1 == steps), None)
            if link is None or reached[number]:
                return
            reached[number] = 1
            number = link[0]

    def _mark_free(self, reached: bytearray) -> None:
        header = next(self.versions(1), b"")
        trunk = int.from_bytes(header[32:36], "big")
        while 0 < trunk <= self._count and not reached[trunk]:
            reached[trunk] = 1
            page = next(self.versions(trunk), bytes(self.size))
            trunk, count = struct.unpack_from(">II", page)
            for (leaf,) in struct.iter_unpack(">I", page[8 : 8 + 4 * min(count, self.usable // 4 - 2)]):
                if leaf <= self._count:
                    reached[leaf] = 1

    def _steps(self, cell: Cell) -> int:
        return -(-(cell.size - len(cell.begin)) // (self.usable - 4))

    def _links(self, number: int, *, last: bool) -> Iterator[tuple[int, bytes]]:
        """What may stand at one place of a chain: the number of the next page, and the content."""
        for page in self.versions(number):
            following = int.from_bytes(page[:4], "big")
            if following == 0 if last else following > 1:
                yield following, page[4 : self.usable]

    def _order(self, frames: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The frames with their pages' numbers, newest first; those left from before the log was begun anew apart."""
        newest: list[tuple[int, int]] = []
        left: list[tuple[int, int]] = []
        salt = os.pread(self._log, 8, 16) if self._log is not None and frames else b""
        heads = [self._head(frame) for frame in range(frames)]
        if heads and all(head[8:16] != salt for head in heads):
            salt = heads[0][8:16]
        # No more pages than that can be there: other numbers are damaged.
        most = max(self._in_file, min(self._told_count(), MOST_PAGES)) + frames
        for frame in reversed(range(frames)):
            number = int.from_bytes(heads[frame][:4], "big")
            number = number if number <= most else 0
            (newest if heads[frame][8:16] == salt else left).append((frame, number))
        return newest, left

    def _told_count(self) -> int:
        """How many pages there are, as the file's header says it."""
        return int.from_bytes(os.pread(self._file, 4, 28), "big") if self._file is not None else 0

    def _head(self, frame: int) -> bytes:
        assert self._log is not None
        return os.pread(self._log, 16, LOG_HEADER + frame * (FRAME_HEADER + self.size))

    def _of_frame(self, frame: int) -> bytes:
        assert self._log is not None
        return os.pread(self._log, self.size, LOG_HEADER + frame * (FRAME_HEADER + self.size) + FRAME_HEADER)

    def _of_file(self, number: int) -> bytes:
        assert self._file is not None
        return os.pread(self._file, self.size, (number - 1) * self.size)

    def _descriptor(self, path: Path) -> int | None:
        if not path.exists():
            return None
        return self._open.enter_context(path.open("rb")).fileno()


def sizes(path: Path) -> list[tuple[int, int]]:
    """How large pages may be, and what is reserved in each: as the file says, as its log says, and as is usual."""
    found = []
    header = _begin(path)
    if len(header) > 20:
        found.append((int.from_bytes(header[16:18], "big"), header[20]))
    log = _begin(path.with_name(path.name + "-wal"))
    found += [(int.from_bytes(log[8:12], "big"), 0), (USUAL_SIZE, 0)]
    found = [(65536 if size == 1 else size, reserved) for size, reserved in found]
    possible = [(size, reserved) for size, reserved in found if _is_page_size(size) and size - reserved >= 480]
    return list(dict.fromkeys(possible))


def leaf_cells(page: bytes, number: int, usable: int) -> list[Cell] | None:
    """The cells of a table's leaf that can be read; None where the page is no such leaf or cannot be one."""
    start = FILE_HEADER if number == 1 else 0
    if len(page) < usable or page[start] != TABLE_LEAF:
        return None
    count = int.from_bytes(page[start + 3 : start + 5], "big")
    pointers = page[start + 8 : start + 8 + 2 * count]
    if start + 8 + 2 * count > usable:
        pointers = page[start + 8 : usable - usable % 2]
    cells = [_cell(page, pointer, usable) for (pointer,) in struct.iter_unpack(">H", pointers)]
    return [cell for cell in cells if cell is not None]


def column_types(record: bytes, size: int) -> list[int] | None:
    """The serial types of a record's columns; None where they do not make a record of so many bytes."""
    length, at = _varint(record, 0)
    if not 1 < length <= len(record):
        return None
    types = []
    while at < length:
        kind, at = _varint(record, at)
        types.append(kind)
    fits = at == length and length + sum(map(_width, types)) == size
    return types if fits else None


def column_values(record: bytes, types: list[int]) -> Iterator[Value]:
    """The columns of a record, or the first of them where it is not all of the record. Raises `UnicodeDecodeError`."""
    at, _ = _varint(record, 0)
    for kind in types:
        width = _width(kind)
        if at + width > len(record):
            return
        yield _value(record[at : at + width], kind)
        at += width


def _value(stored: bytes, kind: int) -> Value:
    if kind in INTEGERS:
        return int.from_bytes(stored, "big", signed=True)
    if kind >= 12:
        return stored.decode() if kind % 2 else stored
    return {7: lambda: float(struct.unpack(">d", stored)[0]), 8: lambda: 0, 9: lambda: 1}.get(kind, lambda: None)()


def _width(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    return 8 if kind == 7 else INTEGERS.get(kind, 0)


def _cell(page: bytes, pointer: int, usable: int) -> Cell | None:
    """The cell at that byte, with as much of its record as stands in the leaf (file format, 1.6: U, P, X, M and K)."""
    size, at = _varint(page, pointer)
    _, at = _varint(page, at)
    most, least = usable - 35, (usable - 12) * 32 // 255 - 23
    if size <= most:
        return Cell(page[at : at + size], size, 0) if size and at + size <= usable else None
    here = least + (size - least) % (usable - 4)
    end = at + (here if here <= most else least)
    overflow = int.from_bytes(page[end : end + 4], "big")
    return Cell(page[at:end], size, overflow) if end + 4 <= usable and overflow > 1 else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins there and where it ends; 0 where it does not end."""
    number = 0
    for index in range(8):
        if at + index >= len(data):
            return 0, len(data)
        byte = data[at + index]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, at + index + 1
    return (number << 8 | data[at + 8], at + 9) if at + 8 < len(data) else (0, len(data))


def _is_other_tree_page(page: bytes, number: int) -> bool:
    start = FILE_HEADER if number == 1 else 0
    header = OTHER_TREE_PAGES.get(page[start]) if len(page) > start else None
    return header is not None and start + header + 2 * int.from_bytes(page[start + 3 : start + 5], "big") <= len(page)


def _is_page_size(size: int) -> bool:
    return 512 <= size <= 65536 and size & (size - 1) == 0


def _once(page: bytes, seen: set[bytes]) -> Iterator[bytes]:
    if page not in seen:
        seen.add(page)
        yield page


def _begin(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_HEADER)
    except FileNotFoundError:
        return b""


def _length(descriptor: int | None) -> int:
    return 0 if descriptor is None else os.fstat(descriptor).st_size
