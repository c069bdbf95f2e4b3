from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "description", "kind", "weights_sha256", "needs_calibration", "reference", "ready", "origin", "family", "precision", "licence", "source", "contract")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    NEEDS_CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    LICENCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    description: str
    kind: str
    weights_sha256: str
    needs_calibration: bool
    reference: str
    ready: bool
    origin: str
    family: str
    precision: str
    licence: str
    source: str
    contract: ModelContract
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., description: _Optional[str] = ..., kind: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., needs_calibration: bool = ..., reference: _Optional[str] = ..., ready: bool = ..., origin: _Optional[str] = ..., family: _Optional[str] = ..., precision: _Optional[str] = ..., licence: _Optional[str] = ..., source: _Optional[str] = ..., contract: _Optional[_Union[ModelContract, _Mapping]] = ...) -> None: ...

class ModelContract(_message.Message):
    __slots__ = ("patterns", "acceleration", "coils", "rows", "columns", "calibration_rows", "calibration_columns", "requires_calibration", "anatomy", "contrast")
    PATTERNS_FIELD_NUMBER: _ClassVar[int]
    ACCELERATION_FIELD_NUMBER: _ClassVar[int]
    COILS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_ROWS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    REQUIRES_CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    ANATOMY_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    patterns: _containers.RepeatedScalarFieldContainer[str]
    acceleration: Range
    coils: Range
    rows: Range
    columns: Range
    calibration_rows: int
    calibration_columns: int
    requires_calibration: bool
    anatomy: str
    contrast: str
    def __init__(self, patterns: _Optional[_Iterable[str]] = ..., acceleration: _Optional[_Union[Range, _Mapping]] = ..., coils: _Optional[_Union[Range, _Mapping]] = ..., rows: _Optional[_Union[Range, _Mapping]] = ..., columns: _Optional[_Union[Range, _Mapping]] = ..., calibration_rows: _Optional[int] = ..., calibration_columns: _Optional[int] = ..., requires_calibration: bool = ..., anatomy: _Optional[str] = ..., contrast: _Optional[str] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("least", "most")
    LEAST_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    least: float
    most: float
    def __init__(self, least: _Optional[float] = ..., most: _Optional[float] = ...) -> None: ...
