"""Values out of a file, with their lines: JSON lines, a JSON array, gzip of either, Arrow rows."""

import codecs
import gzip
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from editsweep.data.arrow_file import MAGIC, read_rows
from editsweep.data.fields import Problem
from editsweep.errors import DataError

_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"
_WHOLE = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\[|\{[ \t\r]*\n)")
"""An array, or an object over several lines: what belongs together has to be found first."""
_CHUNK = 1 << 14


def read_values(path: Path) -> Iterator[tuple[int, Any]]:
    """Each value of a file with the line it begins on, from 1; only a part is in memory at a time.

    What is wrong with one line stands there as a `Problem`, and the next line follows. Of an Arrow
    file a row counts as a line.

    Raises:
        DataError: the file cannot be read, is not what its name says, or is an array that is
            damaged, after which nothing in it can be trusted.
    """
    try:
        if _begins(path, MAGIC):
            yield from read_rows(path)
            return
        with _opened(path) as file:
            whole = _WHOLE.match(cast("Any", file).peek(_CHUNK))
            yield from _Text(path, file).values() if whole else _lines(file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip ({error}); fetch the file again") from error
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); check the path") from error


def _begins(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file, unpacked if they are gzip, whatever its name."""
    with path.open("rb") as file:
        if file.peek(2)[:2] == _GZIP:
            with gzip.open(file) as unpacked:
                yield cast("BinaryIO", unpacked)
        elif path.suffix == ".gz":
            raise DataError(f"{path}: is not gzip; take the .gz off, or fetch the file again")
        else:
            yield file


def _lines(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    for line, raw in enumerate(file, 1):
        text = raw.removeprefix(_MARK) if line == 1 else raw
        if text.strip():
            try:
                yield line, _parse_line(text, line)
            except Problem as problem:
                yield line, problem


def _parse_line(raw: bytes, line: int) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} of line {line} is 0x{raw[error.start]:02x}"
        raise Problem("", "broken_utf8", f"not UTF-8: {where}; save the file as UTF-8") from error
    except RecursionError as error:
        raise Problem("", "invalid_json", "nested too deeply; one flat object a line") from error
    except json.JSONDecodeError as error:
        message = f"not JSON at column {error.colno}: {error.msg}; write one JSON object a line"
        raise Problem("", "invalid_json", message) from error
    except ValueError as error:  # a number with thousands of digits
        raise Problem("", "invalid_json", f"not JSON that can be read: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        double = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise Problem(double, "repeated_key", "stands twice in one object; keep one of them")
    return made


class _Text:
    """The part of a file that is not used up yet; `line` is where it begins."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.rest, self.line, self.ended = "", 1, False
        self.json = json.JSONDecoder(object_pairs_hook=_object)
        self.utf8 = codecs.getincrementaldecoder("utf-8")()
        self.read()
        self.rest = self.rest.removeprefix("\ufeff")

    def values(self) -> Iterator[tuple[int, Any]]:
        """The elements of an array, or objects one after the other."""
        listed = self.next() == "["
        if listed:
            self.use(1)
        while (mark := self.next()) and not (listed and mark == "]"):
            line, value = self.line, self.value()
            yield line, value
            if listed and self.next() == ",":
                self.use(1)
                if self.next() == "]":
                    raise self.error("a comma before the end of the array; remove it")
            elif listed and self.next() not in ("]", ""):
                raise self.error("no comma between two records")
        if listed and not mark:
            raise self.error("the file ends inside its array; fetch the whole file again")
        if listed:
            self.use(1)
            if self.next():
                raise self.error("more text after the end of the array; remove it")

    def next(self) -> str:
        """The next character that is no space, empty at the end of the file; spaces are used up."""
        while True:
            kept = self.rest.lstrip(" \t\r\n")
            self.use(len(self.rest) - len(kept))
            if kept or self.ended:
                return kept[:1]
            self.read()

    def value(self) -> Any:
        """The value at the beginning, with as much more of the file as it takes."""
        while True:
            try:
                found, end = self.json.raw_decode(self.rest)
                # A number at the end of what was read may go on.
                if self.ended or end < len(self.rest):
                    self.use(end)
                    return found
            except json.JSONDecodeError as error:
                if self.ended:
                    self.use(error.pos)
                    message = f"not JSON: {error.msg}; mend it, or fetch the whole file again"
                    raise self.error(message) from error
            except Problem as problem:
                raise self.error(f"{problem.field}: {problem.message}") from problem
            except RecursionError as error:
                raise self.error("nested too deeply") from error
            except ValueError as error:
                raise self.error(f"not JSON that can be read: {error}") from error
            self.read()

    def read(self) -> None:
        """As much more as there is already, so that a long value is not parsed too often."""
        raw = self.file.read(max(_CHUNK, len(self.rest)))
        self.ended = not raw
        try:
            self.rest += self.utf8.decode(raw, final=self.ended)
        except UnicodeDecodeError as error:
            self.line += self.rest.count("\n") + error.object[: error.start].count(b"\n")
            bad = f"0x{error.object[error.start]:02x}"
            raise self.error(f"not UTF-8 (here is {bad}); save the file as UTF-8") from error

    def use(self, count: int) -> None:
        """Go on by so many characters."""
        if count:
            self.line += self.rest.count("\n", 0, count)
            self.rest = self.rest[count:]

    def error(self, message: str) -> DataError:
        """With file and line."""
        return DataError(f"{self.path}:{self.line}: {message}")
