"""Binary streams of yardl, the encoding of MRD version 2: values that a JSON schema at their beginning describes.

Whole numbers are variable-length (seven bits a byte, least significant first; signed ones zigzag), floating-point numbers
little-endian, strings and vectors preceded by their length, unions by the number of their case, and a stream of items is a
series of counted runs that a count of 0 ends. Nothing is allocated for a length before that many bytes are known to be there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from recond_service.types import InvalidInputError, LimitExceededError

MAGIC = b"yardl"
_BUFFER_BYTES = 1 << 18
_MOST_ITEMS = 65536  # of a vector that is kept; what is left out may be of any length
_LONGEST_VARINT = 10

_PLAIN = {
    "bool": "?",
    "int8": "i1",
    "uint8": "u1",
    "float32": "<f4",
    "float64": "<f8",
    "complexfloat32": "<c8",
    "complexfloat64": "<c16",
}
"""Types of fixed size, as their NumPy types; arrays of them are stored as they are."""

_UNSIGNED = {"uint16": 16, "uint32": 32, "uint64": 64, "size": 64}
_SIGNED = {"int16": 16, "int32": 32, "int64": 64, "date": 64, "time": 64, "datetime": 64}

Wanted = Mapping[str, "Wanted"] | None
"""Which fields of a record, or cases of a union, are kept; None for all. Of an array, nothing but its shape if this is empty."""

Json = Any


class Reader:
    """Reads a file from where it stands, never beyond its end.

    Parameters
    ----------
    file
        Open for reading in binary, seekable.
    place
        How messages name it.
    """

    def __init__(self, file: BinaryIO, place: str) -> None:
        self._file = file
        self._start = file.tell()
        self._size = file.seek(0, 2)
        self._end = self._size
        file.seek(self._start)
        self._buffer = b""
        self._at = 0
        self._place = place
        self.item = -1

    @property
    def remaining(self) -> int:
        """Bytes until the end."""
        return self._end - self._start - self._at

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return self._place if self.item < 0 else f"{self._place}/data[{self.item}]"

    def limit(self, most: int | None) -> None:
        """Let no more than `most` bytes from here on be read, or all that are left."""
        self._end = self._size if most is None else min(self._size, self._start + self._at + most)

    def damaged(self, what: str) -> InvalidInputError:
        """Return the error that says what is wrong here."""
        return InvalidInputError(
            f"{self.place} is damaged: {what}. Write the stream again.", reason="MRD2_DAMAGED", field=self.place
        )

    def need(self, count: int) -> None:
        """Check that `count` bytes are left.

        Raises
        ------
        InvalidInputError
            If the stream ends before.
        LimitExceededError
            If the limit comes before.
        """
        if count <= self.remaining:
            return
        if self._end < self._size:
            raise LimitExceededError(
                f"{self.place} has a header of more bytes than this service takes: shorten it.",
                reason="HEADER_TOO_LARGE",
                field=self.place,
            )
        raise InvalidInputError(
            f"{self.place} claims {count} bytes where {self.remaining} are left: it is cut off or damaged, send all of it.",
            reason="MRD2_TRUNCATED",
            field=self.place,
        )

    def _fill(self) -> None:
        """Replace the buffer, which is used up, by the next bytes."""
        self.need(1)
        self._start += len(self._buffer)
        self._at = 0
        self._buffer = self._file.read(_BUFFER_BYTES)
        self.need(1)
        if not self._buffer:
            raise self.damaged("it became shorter while it was read")

    def byte(self) -> int:
        """Return the next byte."""
        if self._at >= len(self._buffer):
            self._fill()
        elif self._end < self._size:
            self.need(1)
        value = self._buffer[self._at]
        self._at += 1
        return value

    def unsigned(self, bits: int = 64) -> int:
        """Return a whole number of at most `bits` bits."""
        value = self.byte()
        if value >= 0x80:
            value &= 0x7F
            for number in range(1, _LONGEST_VARINT + 1):
                piece = self.byte()
                value |= (piece & 0x7F) << (7 * number)
                if piece < 0x80:
                    break
            else:
                raise self.damaged("a number has more than 64 bits")
        if value >> bits:
            raise self.damaged(f"{value} does not fit into {bits} bits")
        return value

    def signed(self, bits: int = 64) -> int:
        """Return a signed whole number of at most `bits` bits."""
        value = self.unsigned(bits)
        return (value >> 1) ^ -(value & 1)

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count <= len(self._buffer) - self._at and self._end == self._size:
            self._at += count
            return self._buffer[self._at - count : self._at]
        self.need(count)
        rest = self._buffer[self._at :][:count]
        self._at += len(rest)
        missing = count - len(rest)
        if not missing:
            return rest
        self._start += len(self._buffer)
        self._buffer, self._at = b"", 0
        further = self._file.read(missing)
        self._start += len(further)
        if len(further) != missing:
            raise self.damaged("it became shorter while it was read")
        return rest + further

    def skip(self, count: int) -> None:
        """Leave out the next `count` bytes."""
        left = len(self._buffer) - self._at
        if count <= left and self._end == self._size:
            self._at += count
            return
        self.need(count)
        if count <= left:
            self._at += count
            return
        self._start += self._at + count
        self._buffer, self._at = b"", 0
        self._file.seek(self._start)

    def skip_numbers(self, count: int) -> None:
        """Leave out `count` variable-length numbers."""
        self.need(count)
        while count:
            if self._at >= len(self._buffer):
                self._fill()
            last = np.flatnonzero(np.frombuffer(self._buffer, np.uint8, offset=self._at) < 0x80)
            if len(last) >= count:
                self.skip(int(last[count - 1]) + 1)
                return
            self.need(count)
            count -= len(last)
            self.skip(len(self._buffer) - self._at)


@dataclass(frozen=True, slots=True)
class Plan:
    """How values of a type are read and left out.

    Parameters
    ----------
    read, skip
        Take the reader.
    smallest
        Bytes that a value has at least.
    plain
        NumPy type of values of fixed size, or None.
    numeric
        A value is one variable-length number.
    """

    read: Callable[[Reader], Any]
    skip: Callable[[Reader], Any]
    smallest: int
    plain: str | None = None
    numeric: bool = False


def stream_of(reader: Reader, item: Plan) -> Iterator[Any]:
    """Read the items of a stream until the count that ends it."""
    reader.item = 0
    while count := reader.unsigned():
        reader.need(count * item.smallest)
        for _ in range(count):
            yield item.read(reader)
            reader.item += 1


class Schema:
    """The types of a stream.

    Parameters
    ----------
    types
        The `types` of a schema that is known: types that contain themselves would not end here.
    """

    def __init__(self, types: list[Json]) -> None:
        self._types = {definition["name"]: definition for definition in types}

    def plan(self, kind: Json, wanted: Wanted = None, arguments: Mapping[str, Json] | None = None) -> Plan:
        """Return how a type is read.

        Parameters
        ----------
        kind
            A type as the schema writes it.
        wanted
            What to keep.
        arguments
            What type parameters stand for.
        """
        arguments = arguments or {}
        if isinstance(kind, list):
            return self._union(kind, wanted, arguments)
        if isinstance(kind, str):
            meant = arguments.get(kind, kind)
            return _number_or_text(meant) or self._named(meant, [], wanted)
        if "name" in kind:
            given = [arguments.get(argument, argument) for argument in kind["typeArguments"]]
            return self._named(kind["name"], given, wanted)
        return self._container(kind, wanted, arguments)

    def _container(self, kind: Json, wanted: Wanted, arguments: Mapping[str, Json]) -> Plan:
        ((form, details),) = kind.items()
        if form == "map":
            return _vector(
                _sequence({name: self.plan(details[name], None, arguments) for name in ("keys", "values")}, None), None
            )
        items = self.plan(details["items"], wanted, arguments)
        if form == "vector":
            return _vector(items, details.get("length"))
        return _array(items, details.get("dimensions"), shape_only=wanted is not None)

    def _named(self, name: str, given: list[Json], wanted: Wanted) -> Plan:
        definition = self._types[name.rpartition(".")[2]]
        arguments = dict(zip(definition.get("typeParameters", ()), given, strict=True))
        if "fields" in definition:
            names = [field["name"] for field in definition["fields"]]
            return _sequence(
                {
                    field["name"]: self.plan(
                        field["type"], None if wanted is None else wanted.get(field["name"]), arguments
                    )
                    for field in definition["fields"]
                },
                None if wanted is None else {each for each in names if each in wanted},
            )
        if "values" in definition:
            return _enumeration(definition)
        return self.plan(definition["type"], wanted, arguments)

    def _union(self, cases: list[Json], wanted: Wanted, arguments: Mapping[str, Json]) -> Plan:
        plans: list[tuple[str, Plan] | None] = []
        tagged = False
        for case in cases:
            if case is None:
                plans.append(None)
            elif isinstance(case, dict) and "tag" in case:
                tagged = True
                inner = None if wanted is None else wanted.get(case["tag"])
                plans.append((case["tag"], self.plan(case["type"], inner, arguments)))
            else:
                plans.append(("", self.plan(case, wanted, arguments)))

        def case_of(reader: Reader) -> tuple[str, Plan] | None:
            number = reader.byte()
            if number >= len(plans):
                raise reader.damaged(f"case {number} of a union that has {len(plans)}")
            return plans[number]

        def read(reader: Reader) -> Any:  # noqa: ANN401 - a value of any type
            case = case_of(reader)
            if case is None:
                return None
            tag, plan = case
            if not tagged:
                return plan.read(reader)
            keep = wanted is None or tag in wanted
            return tag, (plan.read if keep else plan.skip)(reader)

        def skip(reader: Reader) -> None:
            case = case_of(reader)
            if case is not None:
                case[1].skip(reader)

        return Plan(read, skip, 1)


def _number_or_text(kind: str) -> Plan | None:
    if kind in _PLAIN:
        dtype = np.dtype(_PLAIN[kind])
        size = dtype.itemsize
        return Plan(
            lambda reader: np.frombuffer(reader.take(size), dtype)[0].item(),
            lambda reader: reader.skip(size),
            size,
            plain=_PLAIN[kind],
        )
    if kind in _UNSIGNED:
        bits = _UNSIGNED[kind]
        return Plan(lambda reader: reader.unsigned(bits), Reader.unsigned, 1, numeric=True)
    if kind in _SIGNED:
        signed_bits = _SIGNED[kind]
        return Plan(lambda reader: reader.signed(signed_bits), Reader.unsigned, 1, numeric=True)
    if kind == "string":
        return Plan(
            lambda reader: reader.take(reader.unsigned()).decode(errors="replace"),
            lambda reader: reader.skip(reader.unsigned()),
            1,
        )
    return None


def _enumeration(definition: Json) -> Plan:
    """Return how an enumeration is read: its symbol; of flags, which have an unsigned base, the number."""
    base = definition.get("base", "int32")
    number = _number_or_text(base)
    assert number is not None  # noqa: S101 - the base of an enumeration is a number
    if base in _UNSIGNED:
        return number
    symbols = {value["value"]: value["symbol"] for value in definition["values"]}

    def read(reader: Reader) -> str:
        value = number.read(reader)
        if value not in symbols:
            raise reader.damaged(f"{definition['name']} has no value {value}")
        return str(symbols[value])

    return Plan(read, number.skip, 1, numeric=True)


def _sequence(fields: dict[str, Plan], kept: set[str] | None) -> Plan:
    """Return how a record is read: a dictionary of the fields that are kept."""
    steps = [(name if kept is None or name in kept else None, plan) for name, plan in fields.items()]
    skips = [plan.skip for plan in fields.values()]

    def read(reader: Reader) -> dict[str, Any]:
        values = {}
        for name, plan in steps:
            if name is None:
                plan.skip(reader)
            else:
                values[name] = plan.read(reader)
        return values

    def skip(reader: Reader) -> None:
        for each in skips:
            each(reader)

    return Plan(read, skip, sum(plan.smallest for plan in fields.values()))


def _vector(items: Plan, length: int | None) -> Plan:
    def count_of(reader: Reader) -> int:
        count = reader.unsigned() if length is None else length
        reader.need(count * items.smallest)
        return count

    def read(reader: Reader) -> list[Any]:
        count = count_of(reader)
        if count > _MOST_ITEMS:
            raise reader.damaged(f"a list has {count} entries, more than {_MOST_ITEMS}")
        return [items.read(reader) for _ in range(count)]

    def skip(reader: Reader) -> None:
        _skip_many(reader, items, count_of(reader))

    return Plan(read, skip, 1 if length is None else length * items.smallest)


def _skip_many(reader: Reader, items: Plan, count: int) -> None:
    reader.need(count * items.smallest)
    if items.plain is not None:
        reader.skip(count * items.smallest)
    elif items.numeric:
        reader.skip_numbers(count)
    else:
        for _ in range(count):
            items.skip(reader)


def _array(items: Plan, dimensions: Json, *, shape_only: bool) -> Plan:
    """Return how an array is read: as a NumPy array, or as its shape. Only arrays of plain values are ever kept."""
    count = dimensions if isinstance(dimensions, int) or dimensions is None else len(dimensions)
    lengths = [axis.get("length") for axis in dimensions] if isinstance(dimensions, list) else []
    fixed = tuple(lengths) if lengths and None not in lengths else None

    def shape_of(reader: Reader) -> tuple[int, ...]:
        if fixed is not None:
            return fixed
        axes = reader.unsigned() if count is None else count
        if axes > np.iinfo(np.int8).max:
            raise reader.damaged(f"an array has {axes} axes")
        return tuple(reader.unsigned() for _ in range(axes))

    def read(reader: Reader) -> Any:  # noqa: ANN401 - an array or its shape
        shape = shape_of(reader)
        total = math.prod(shape)
        if shape_only or items.plain is None:
            _skip_many(reader, items, total)
            return shape
        return np.frombuffer(reader.take(total * items.smallest), items.plain).reshape(shape)

    def skip(reader: Reader) -> None:
        _skip_many(reader, items, math.prod(shape_of(reader)))

    smallest = 1 if count is None else count
    return Plan(read, skip, smallest if fixed is None else math.prod(fixed) * items.smallest)
