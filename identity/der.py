"""A reader of DER small enough to be believed; shares nothing with the library that writes certificates."""

from __future__ import annotations

from collections.abc import Iterator

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTC_TIME, GENERALIZED_TIME, SEQUENCE = 0x17, 0x18, 0x30


class DerError(ValueError):
    """Not the DER that was expected."""


class Reader:
    """Takes elements off a run of DER, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, tag: int) -> bytes:
        """Take the next element's content, which must have this tag."""
        data, at = self._data, self._at
        if len(data) < at + 2 or data[at] != tag:
            raise DerError(f"expected tag {tag:#04x} at byte {at}")
        length, at = data[at + 1], at + 2
        if length >= 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[at : at + count])
            # DER: the shortest form that holds the length.
            if not 1 <= count <= 3 or length < 0x80 or length < 1 << (8 * (count - 1)):
                raise DerError(f"length at byte {at - 1}")
            at += count
        if at + length > len(data):
            raise DerError(f"length at byte {at - 1}")
        self._at = at + length
        return data[at : self._at]

    def take_whole(self, tag: int) -> bytes:
        """Take the next element, header and content."""
        begin = self._at
        self.take(tag)
        return self._data[begin : self._at]

    def has(self, tag: int) -> bool:
        return self._at < len(self._data) and self._data[self._at] == tag

    def end(self) -> None:
        if self._at != len(self._data):
            raise DerError(f"something behind byte {self._at}")

    def each(self, tag: int) -> Iterator[bytes]:
        """Take elements of this tag until the end."""
        while self._at < len(self._data):
            yield self.take(tag)


def whole(data: bytes, tag: int) -> bytes:
    """Read the content of the one element that `data` is."""
    reader = Reader(data)
    content = reader.take(tag)
    reader.end()
    return content
