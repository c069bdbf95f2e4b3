"""Results of heads as messages of the wire."""

from __future__ import annotations

from collections.abc import Iterator

from recond.v1 import heads_pb2 as pb
from recond_models.heads.contract import Code
from recond_service.processes import SharedBlock
from recond_service.types import HeadResult

PIECE_BYTES = 1 << 20


def result_message(result: HeadResult) -> pb.HeadResult:
    """Return the message of a result; its label map or attention maps follow in `map_messages`."""
    return pb.HeadResult(
        head=result.head,
        version=result.version,
        weights_sha256=result.weights_sha256,
        task=result.task,
        stack=result.stack,
        volume=result.volume,
        images=result.images,
        label_map=_label_map(result) if result.label_bytes else None,
        attention=_attention(result) if result.attention else None,
        instances=[
            pb.Instance(
                label=each.label,
                first=each.first,
                last=each.last,
                confidence=each.confidence,
                centre_mm=each.centre_mm,
                structure=each.structure,
            )
            for each in result.instances
        ],
        scores=[pb.Score(group=each.group, name=each.name, probability=each.probability) for each in result.scores],
        answers=dict(result.answers),
        measurements=[
            pb.Measurement(
                name=each.name,
                value=each.value,
                unit=each.unit,
                label=each.label,
                deviation=each.deviation,
                code=_code(each.code),
            )
            for each in result.measurements
        ],
        refusal=result.refusal,
        problem=result.problem,
    )


def map_messages(maps: SharedBlock | None) -> Iterator[pb.HeadMap]:
    """Yield a label map and the confidence behind it, or attention maps, in pieces; nothing where there are none."""
    size = 0 if maps is None else maps.size
    for offset in range(0, size, PIECE_BYTES):
        if maps is not None:
            yield pb.HeadMap(offset=offset, data=maps.read(offset, min(PIECE_BYTES, size - offset)))


def _label_map(result: HeadResult) -> pb.LabelMap:
    return pb.LabelMap(
        slices=len(result.images),
        rows=result.rows,
        columns=result.columns,
        label_bytes=result.label_bytes,
        has_confidence=result.has_confidence,
        labels=[pb.Label(value=each.value, name=each.name, code=_code(each.code)) for each in result.labels],
        size_bytes=result.map_bytes,
    )


def _attention(result: HeadResult) -> pb.AttentionMaps:
    return pb.AttentionMaps(
        slices=len(result.images),
        rows=result.rows,
        columns=result.columns,
        maps=[pb.Attention(group=each.group, name=each.name) for each in result.attention],
        size_bytes=result.map_bytes,
    )


def _code(code: Code | None) -> pb.Code | None:
    return None if code is None else pb.Code(value=code.value, scheme=code.scheme, meaning=code.meaning)
