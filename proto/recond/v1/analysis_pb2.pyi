from recond.v1 import heads_pb2 as _heads_pb2
from recond.v1 import reconstruction_pb2 as _reconstruction_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AnalyzeRequest(_message.Message):
    __slots__ = ("spec", "chunk")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    spec: AnalyzeSpec
    chunk: _reconstruction_pb2.Chunk
    def __init__(self, spec: _Optional[_Union[AnalyzeSpec, _Mapping]] = ..., chunk: _Optional[_Union[_reconstruction_pb2.Chunk, _Mapping]] = ...) -> None: ...

class AnalyzeSpec(_message.Message):
    __slots__ = ("parts", "heads", "outputs", "priority", "spacing", "attention")
    PARTS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SPACING_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[ImagePart]
    heads: _containers.RepeatedScalarFieldContainer[str]
    outputs: _containers.RepeatedScalarFieldContainer[_reconstruction_pb2.OutputFormat]
    priority: _reconstruction_pb2.Priority
    spacing: _containers.RepeatedScalarFieldContainer[float]
    attention: bool
    def __init__(self, parts: _Optional[_Iterable[_Union[ImagePart, _Mapping]]] = ..., heads: _Optional[_Iterable[str]] = ..., outputs: _Optional[_Iterable[_Union[_reconstruction_pb2.OutputFormat, str]]] = ..., priority: _Optional[_Union[_reconstruction_pb2.Priority, str]] = ..., spacing: _Optional[_Iterable[float]] = ..., attention: bool = ...) -> None: ...

class ImagePart(_message.Message):
    __slots__ = ("name", "size_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    size_bytes: int
    def __init__(self, name: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class AnalyzeResponse(_message.Message):
    __slots__ = ("accepted", "head", "head_map", "file_chunk", "summary")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HEAD_MAP_FIELD_NUMBER: _ClassVar[int]
    FILE_CHUNK_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    accepted: _reconstruction_pb2.Accepted
    head: _heads_pb2.HeadResult
    head_map: _heads_pb2.HeadMap
    file_chunk: _reconstruction_pb2.FileChunk
    summary: AnalyzeSummary
    def __init__(self, accepted: _Optional[_Union[_reconstruction_pb2.Accepted, _Mapping]] = ..., head: _Optional[_Union[_heads_pb2.HeadResult, _Mapping]] = ..., head_map: _Optional[_Union[_heads_pb2.HeadMap, _Mapping]] = ..., file_chunk: _Optional[_Union[_reconstruction_pb2.FileChunk, _Mapping]] = ..., summary: _Optional[_Union[AnalyzeSummary, _Mapping]] = ...) -> None: ...

class AnalyzeSummary(_message.Message):
    __slots__ = ("shape", "stacks", "seconds", "findings")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    STACKS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    stacks: _containers.RepeatedCompositeFieldContainer[_reconstruction_pb2.Stack]
    seconds: _reconstruction_pb2.Timings
    findings: _containers.RepeatedCompositeFieldContainer[_reconstruction_pb2.Finding]
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., stacks: _Optional[_Iterable[_Union[_reconstruction_pb2.Stack, _Mapping]]] = ..., seconds: _Optional[_Union[_reconstruction_pb2.Timings, _Mapping]] = ..., findings: _Optional[_Iterable[_Union[_reconstruction_pb2.Finding, _Mapping]]] = ...) -> None: ...

class CompareRequest(_message.Message):
    __slots__ = ("spec", "chunk")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    spec: CompareSpec
    chunk: _reconstruction_pb2.Chunk
    def __init__(self, spec: _Optional[_Union[CompareSpec, _Mapping]] = ..., chunk: _Optional[_Union[_reconstruction_pb2.Chunk, _Mapping]] = ...) -> None: ...

class CompareSpec(_message.Message):
    __slots__ = ("visits", "heads", "priority", "patient", "clinical_rows")
    VISITS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    PATIENT_FIELD_NUMBER: _ClassVar[int]
    CLINICAL_ROWS_FIELD_NUMBER: _ClassVar[int]
    visits: _containers.RepeatedCompositeFieldContainer[Visit]
    heads: _containers.RepeatedScalarFieldContainer[str]
    priority: _reconstruction_pb2.Priority
    patient: str
    clinical_rows: ImagePart
    def __init__(self, visits: _Optional[_Iterable[_Union[Visit, _Mapping]]] = ..., heads: _Optional[_Iterable[str]] = ..., priority: _Optional[_Union[_reconstruction_pb2.Priority, str]] = ..., patient: _Optional[str] = ..., clinical_rows: _Optional[_Union[ImagePart, _Mapping]] = ...) -> None: ...

class Visit(_message.Message):
    __slots__ = ("name", "date", "parts", "labels", "spacing")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SPACING_FIELD_NUMBER: _ClassVar[int]
    name: str
    date: str
    parts: _containers.RepeatedCompositeFieldContainer[ImagePart]
    labels: _containers.RepeatedCompositeFieldContainer[VisitLabels]
    spacing: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., date: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[ImagePart, _Mapping]]] = ..., labels: _Optional[_Iterable[_Union[VisitLabels, _Mapping]]] = ..., spacing: _Optional[_Iterable[float]] = ...) -> None: ...

class VisitLabels(_message.Message):
    __slots__ = ("head", "part")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    head: str
    part: ImagePart
    def __init__(self, head: _Optional[str] = ..., part: _Optional[_Union[ImagePart, _Mapping]] = ...) -> None: ...

class CompareResponse(_message.Message):
    __slots__ = ("accepted", "head", "head_map", "file_chunk", "comparison", "summary")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HEAD_MAP_FIELD_NUMBER: _ClassVar[int]
    FILE_CHUNK_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    accepted: _reconstruction_pb2.Accepted
    head: _heads_pb2.HeadResult
    head_map: _heads_pb2.HeadMap
    file_chunk: _reconstruction_pb2.FileChunk
    comparison: ComparisonReport
    summary: AnalyzeSummary
    def __init__(self, accepted: _Optional[_Union[_reconstruction_pb2.Accepted, _Mapping]] = ..., head: _Optional[_Union[_heads_pb2.HeadResult, _Mapping]] = ..., head_map: _Optional[_Union[_heads_pb2.HeadMap, _Mapping]] = ..., file_chunk: _Optional[_Union[_reconstruction_pb2.FileChunk, _Mapping]] = ..., comparison: _Optional[_Union[ComparisonReport, _Mapping]] = ..., summary: _Optional[_Union[AnalyzeSummary, _Mapping]] = ...) -> None: ...

class ComparisonReport(_message.Message):
    __slots__ = ("report", "table")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    report: str
    table: str
    def __init__(self, report: _Optional[str] = ..., table: _Optional[str] = ...) -> None: ...
