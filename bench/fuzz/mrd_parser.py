"""The MRD parser under libFuzzer: any stream gives messages or a `ProtocolError`, the same however it is cut, in bounded memory."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["recond_gateway"]):
    from recond_gateway.mrd import writer
    from recond_gateway.mrd.errors import ProtocolError
    from recond_gateway.mrd.limits import WireLimits
    from recond_gateway.mrd.parser import MrdParser

from mrd_streams import fed, flat, scan, serialized

LIMITS = WireLimits(batch_bytes=2048, text_bytes=4096, query_bytes=64, data_bytes=8192)
MOST = 1 << (LIMITS.largest_message - 1).bit_length()


def outcome(stream: bytes, sizes: bytes) -> tuple[list[tuple[object, ...]], str, int]:
    parser = MrdParser(LIMITS)
    values: list[tuple[object, ...]] = []
    try:
        for message in fed(parser, stream, [4 * size for size in sizes]):
            values += flat([message])
            if parser.capacity > MOST:
                raise AssertionError(f"the buffer has {parser.capacity} bytes, and may have {MOST}")
    except ProtocolError as error:
        return values, error.reason, parser.at
    return values, "", parser.at


def one_input(data: bytes) -> None:
    """The first byte says how many of the following are sizes of pieces; the stream is behind them."""
    count = data[0] % 16 if data else 0
    sizes, stream = data[1 : 1 + count], data[1 + count :]
    if outcome(stream, sizes) != outcome(stream, b""):
        raise AssertionError("the messages depend on how the stream is cut")


def write_seeds(folder: Path) -> None:
    whole = serialized(scan())
    gadgetron = writer.query(1, "gadgetron::info") + writer.response(1, "4.1") + writer.gadgetron_error("no")
    for number, stream in enumerate((whole, whole[1026:], gadgetron, serialized(scan()[4:]), serialized(scan()[12:]))):
        (folder / f"seed-{number}").write_bytes(bytes([number]) + bytes(range(3, 3 + number)) + stream)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if Path(argument).is_dir():
            write_seeds(Path(argument))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
