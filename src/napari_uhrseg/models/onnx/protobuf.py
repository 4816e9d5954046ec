"""Reading of protobuf messages field by field, without loading their data.

Only the fields that a caller asks for are read. Tensors are skipped, so that a file of
gigabytes takes milliseconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmap import mmap

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
MOST_FIELDS = 2_000_000
"""Fields of a file; more would take minutes."""
MOST_TEXT = 1 << 20
"""Bytes of a text; longer ones are refused."""


class MessageError(ValueError):
    """Error: a message is damaged or exceeds a limit."""


@dataclass(slots=True)
class Budget:
    """Number of fields that may still be read."""

    left: int = MOST_FIELDS

    def take(self) -> None:
        """Count a field. Raises MessageError if there are too many."""
        self.left -= 1
        if self.left < 0:
            raise MessageError("it has too many fields")


@dataclass(frozen=True, slots=True)
class Message:
    """Part of a file that contains a message.

    Attributes
    ----------
    data
        The file.
    start, end
        First byte of the message, and the byte after the last one.
    budget
        Number of fields that may still be read.
    """

    data: "mmap | bytes"
    start: int
    end: int
    budget: Budget

    def fields(self) -> Iterator[tuple[int, "int | Message"]]:
        """Yield the number and the value of each field.

        A value is a number, or the bytes of a text or message.

        Raises
        ------
        MessageError
            If the message is damaged or has too many fields.
        """
        at = self.start
        while at < self.end:
            self.budget.take()
            key, at = self._varint(at)
            kind = key & 7
            if kind == VARINT:
                value, at = self._varint(at)
                yield key >> 3, value
            elif kind == BYTES:
                length, at = self._varint(at)
                if at + length > self.end:
                    raise MessageError("it is cut off")
                yield key >> 3, Message(self.data, at, at + length, self.budget)
                at += length
            elif kind in (FIXED64, FIXED32):
                at += 8 if kind == FIXED64 else 4
            else:
                raise MessageError(f"it has a field of the unknown type {kind}")
        if at > self.end:
            raise MessageError("it is cut off")

    def messages(self, number: int) -> Iterator["Message"]:
        """Yield the messages in the fields with this number."""
        for found, value in self.fields():
            if found == number and isinstance(value, Message):
                yield value

    def texts(self, *numbers: int) -> tuple[str, ...]:
        """Return the last text of each of these fields; empty if there is none."""
        found = dict.fromkeys(numbers, "")
        for number, value in self.fields():
            if number in found and isinstance(value, Message):
                found[number] = value.text()
        return tuple(found.values())

    def numbers(self, number: int) -> list[int]:
        """Return the numbers in the fields with this number, packed or not."""
        found = []
        for key, value in self.fields():
            if key != number:
                continue
            if isinstance(value, int):
                found.append(value)
            else:
                found += value.varints()
        return found

    def varints(self) -> list[int]:
        """Return the packed numbers that the bytes consist of."""
        found, at = [], self.start
        while at < self.end:
            self.budget.take()
            value, at = self._varint(at)
            found.append(value)
        return found

    def text(self) -> str:
        """Return the bytes as text.

        Raises
        ------
        MessageError
            If it is longer than `MOST_TEXT`.
        """
        if self.end - self.start > MOST_TEXT:
            raise MessageError("it has a text of more than 1 MB")
        return self.data[self.start : self.end].decode("utf-8", "replace")

    def _varint(self, at: int) -> tuple[int, int]:
        """Return a number of up to ten bytes, and the position after it."""
        value = 0
        for shift in range(0, 70, 7):
            if at >= self.end:
                raise MessageError("it is cut off")
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
        raise MessageError("it has a number of more than ten bytes")


def whole(data: "mmap | bytes") -> Message:
    """Return the message that a file consists of."""
    return Message(data, 0, len(data), Budget())
