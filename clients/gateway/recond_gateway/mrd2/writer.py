"""Images of version 1 into a stream of MRD version 2."""

from __future__ import annotations

from types import TracebackType
from typing import Any, BinaryIO, Final

import mrd
import numpy as np
from defusedxml.ElementTree import ParseError, fromstring

from recond_gateway.mrd.layouts import DataType, ImageType
from recond_gateway.mrd.messages import ImageMessage

_ITEMS: Final = {
    DataType.UINT16: mrd.StreamItem.ImageUint16,
    DataType.INT16: mrd.StreamItem.ImageInt16,
    DataType.UINT32: mrd.StreamItem.ImageUint32,
    DataType.INT32: mrd.StreamItem.ImageInt32,
    DataType.FLOAT32: mrd.StreamItem.ImageFloat,
    DataType.FLOAT64: mrd.StreamItem.ImageDouble,
    DataType.COMPLEX64: mrd.StreamItem.ImageComplexFloat,
    DataType.COMPLEX128: mrd.StreamItem.ImageComplexDouble,
}
_COUNTERS: Final = (
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "acquisition_time_stamp",
    "image_index",
    "image_series_index",
)


class Mrd2Writer:
    """Writes one stream, an image at a time; each is out when `write` returns. A context manager, whose end marks the stream's.

    Parameters
    ----------
    stream
        Where to.
    header
        The header of the scan, as `Mrd2Reader.mrd_header` has it; None for none.

    Raises
    ------
    OSError
        The other side is gone.
    """

    def __init__(self, stream: BinaryIO, header: mrd.Header | None) -> None:
        self._stream: Final = stream
        self._writer: Final = mrd.BinaryMrdWriter(stream)
        self._writer.write_header(header)
        self._writer.write_data([])
        self._flush()

    def __enter__(self) -> Mrd2Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()

    def write(self, image: ImageMessage) -> None:
        """Write an image; colours, for which version 2 has no type, go as magnitudes of three channels.

        Raises
        ------
        ValueError
            Its header has a data type that does not exist, or does not fit its pixels.
        OSError
            The other side is gone.
        """
        head = image.header
        code = DataType(int(head["data_type"]))
        x, y, z = (int(side) for side in head["matrix_size"])
        pixels = np.frombuffer(image.pixels, code.dtype).reshape(int(head["channels"]), z, y, x)
        item = _ITEMS[code](mrd.Image(head=_head(head), data=pixels, meta=_meta(image.attributes)))
        self._writer.write_data([item])
        self._flush()

    def close(self) -> None:
        """Mark the end of the stream."""
        self._writer.close()
        self._stream.flush()

    def _flush(self) -> None:
        self._writer._stream.flush()  # noqa: SLF001 - the package itself sends when 64 KiB are full


def _head(head: np.void) -> mrd.ImageHeader:
    image_type = int(head["image_type"])
    if image_type not in set(ImageType) - {ImageType.RGB}:
        image_type = ImageType.MAGNITUDE
    return mrd.ImageHeader(
        flags=mrd.ImageFlags(int(head["flags"])),
        measurement_uid=int(head["measurement_uid"]),
        field_of_view=head["field_of_view"].copy(),
        position=head["position"].copy(),
        col_dir=head["read_dir"].copy(),
        line_dir=head["phase_dir"].copy(),
        slice_dir=head["slice_dir"].copy(),
        patient_table_position=head["patient_table_position"].copy(),
        **{name: int(head[name]) for name in _COUNTERS},
        physiology_time_stamp=head["physiology_time_stamp"].tolist(),
        image_type=mrd.ImageType(image_type),
        user_int=head["user_int"].tolist(),
        user_float=head["user_float"].tolist(),
    )


def _meta(attributes: str) -> dict[str, list[Any]]:
    """Return meta attributes; what does not read as MRD's XML is kept under one name."""
    if not attributes.strip():
        return {}
    try:
        root = fromstring(attributes)
    except (ParseError, ValueError):
        return {"attributes": [mrd.ImageMetaValue.String(attributes)]}
    return {
        name: [_value(value.text or "") for value in meta.iterfind("value")]
        for meta in root.iterfind("meta")
        if (name := meta.findtext("name"))
    }


def _value(text: str) -> Any:  # noqa: ANN401
    """Return a value with its type: a number, if its text is the one that the number has."""
    for kind, wrapped, most in ((int, mrd.ImageMetaValue.Int64, 2**63), (float, mrd.ImageMetaValue.Float64, np.inf)):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text and -most <= number < most:
            return wrapped(number)
    return mrd.ImageMetaValue.String(text)
