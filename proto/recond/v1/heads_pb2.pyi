from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HeadResult(_message.Message):
    __slots__ = ("head", "version", "weights_sha256", "task", "stack", "volume", "images", "label_map", "instances", "scores", "answers", "measurements", "refusal", "problem", "attention")
    class AnswersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    HEAD_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LABEL_MAP_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FIELD_NUMBER: _ClassVar[int]
    head: str
    version: str
    weights_sha256: str
    task: str
    stack: str
    volume: int
    images: _containers.RepeatedScalarFieldContainer[int]
    label_map: LabelMap
    instances: _containers.RepeatedCompositeFieldContainer[Instance]
    scores: _containers.RepeatedCompositeFieldContainer[Score]
    answers: _containers.ScalarMap[str, str]
    measurements: _containers.RepeatedCompositeFieldContainer[Measurement]
    refusal: str
    problem: str
    attention: AttentionMaps
    def __init__(self, head: _Optional[str] = ..., version: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., task: _Optional[str] = ..., stack: _Optional[str] = ..., volume: _Optional[int] = ..., images: _Optional[_Iterable[int]] = ..., label_map: _Optional[_Union[LabelMap, _Mapping]] = ..., instances: _Optional[_Iterable[_Union[Instance, _Mapping]]] = ..., scores: _Optional[_Iterable[_Union[Score, _Mapping]]] = ..., answers: _Optional[_Mapping[str, str]] = ..., measurements: _Optional[_Iterable[_Union[Measurement, _Mapping]]] = ..., refusal: _Optional[str] = ..., problem: _Optional[str] = ..., attention: _Optional[_Union[AttentionMaps, _Mapping]] = ...) -> None: ...

class AttentionMaps(_message.Message):
    __slots__ = ("slices", "rows", "columns", "maps", "size_bytes")
    SLICES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    slices: int
    rows: int
    columns: int
    maps: _containers.RepeatedCompositeFieldContainer[Attention]
    size_bytes: int
    def __init__(self, slices: _Optional[int] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., maps: _Optional[_Iterable[_Union[Attention, _Mapping]]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Attention(_message.Message):
    __slots__ = ("group", "name")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    group: str
    name: str
    def __init__(self, group: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class LabelMap(_message.Message):
    __slots__ = ("slices", "rows", "columns", "label_bytes", "has_confidence", "labels", "size_bytes")
    SLICES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    LABEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    HAS_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    slices: int
    rows: int
    columns: int
    label_bytes: int
    has_confidence: bool
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    size_bytes: int
    def __init__(self, slices: _Optional[int] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., label_bytes: _Optional[int] = ..., has_confidence: bool = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("value", "name", "code")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    value: int
    name: str
    code: Code
    def __init__(self, value: _Optional[int] = ..., name: _Optional[str] = ..., code: _Optional[_Union[Code, _Mapping]] = ...) -> None: ...

class Code(_message.Message):
    __slots__ = ("value", "scheme", "meaning")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SCHEME_FIELD_NUMBER: _ClassVar[int]
    MEANING_FIELD_NUMBER: _ClassVar[int]
    value: str
    scheme: str
    meaning: str
    def __init__(self, value: _Optional[str] = ..., scheme: _Optional[str] = ..., meaning: _Optional[str] = ...) -> None: ...

class Instance(_message.Message):
    __slots__ = ("label", "first", "last", "confidence", "centre_mm", "structure")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    CENTRE_MM_FIELD_NUMBER: _ClassVar[int]
    STRUCTURE_FIELD_NUMBER: _ClassVar[int]
    label: int
    first: _containers.RepeatedScalarFieldContainer[int]
    last: _containers.RepeatedScalarFieldContainer[int]
    confidence: float
    centre_mm: _containers.RepeatedScalarFieldContainer[float]
    structure: str
    def __init__(self, label: _Optional[int] = ..., first: _Optional[_Iterable[int]] = ..., last: _Optional[_Iterable[int]] = ..., confidence: _Optional[float] = ..., centre_mm: _Optional[_Iterable[float]] = ..., structure: _Optional[str] = ...) -> None: ...

class Score(_message.Message):
    __slots__ = ("group", "name", "probability")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    group: str
    name: str
    probability: float
    def __init__(self, group: _Optional[str] = ..., name: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class Measurement(_message.Message):
    __slots__ = ("name", "value", "unit", "label", "deviation", "code")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    DEVIATION_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    unit: str
    label: int
    deviation: float
    code: Code
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., unit: _Optional[str] = ..., label: _Optional[int] = ..., deviation: _Optional[float] = ..., code: _Optional[_Union[Code, _Mapping]] = ...) -> None: ...

class HeadMap(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...
