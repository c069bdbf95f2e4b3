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
    __slots__ = ("models", "heads")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    heads: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., heads: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

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
    __slots__ = ("name", "version", "description", "kind", "weights_sha256", "needs_calibration", "reference", "ready", "origin", "family", "precision", "licence", "source", "contract", "package", "promoted", "canary_share", "head")
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
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_FIELD_NUMBER: _ClassVar[int]
    CANARY_SHARE_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
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
    package: str
    promoted: bool
    canary_share: float
    head: HeadContract
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., description: _Optional[str] = ..., kind: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., needs_calibration: bool = ..., reference: _Optional[str] = ..., ready: bool = ..., origin: _Optional[str] = ..., family: _Optional[str] = ..., precision: _Optional[str] = ..., licence: _Optional[str] = ..., source: _Optional[str] = ..., contract: _Optional[_Union[ModelContract, _Mapping]] = ..., package: _Optional[str] = ..., promoted: bool = ..., canary_share: _Optional[float] = ..., head: _Optional[_Union[HeadContract, _Mapping]] = ...) -> None: ...

class HeadContract(_message.Message):
    __slots__ = ("task", "groups", "slices", "fewest_slices", "coarsest_pixel_mm", "coarsest_slice_mm", "anatomy", "contrasts")
    TASK_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    FEWEST_SLICES_FIELD_NUMBER: _ClassVar[int]
    COARSEST_PIXEL_MM_FIELD_NUMBER: _ClassVar[int]
    COARSEST_SLICE_MM_FIELD_NUMBER: _ClassVar[int]
    ANATOMY_FIELD_NUMBER: _ClassVar[int]
    CONTRASTS_FIELD_NUMBER: _ClassVar[int]
    task: str
    groups: _containers.RepeatedCompositeFieldContainer[HeadGroup]
    slices: int
    fewest_slices: int
    coarsest_pixel_mm: float
    coarsest_slice_mm: float
    anatomy: str
    contrasts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, task: _Optional[str] = ..., groups: _Optional[_Iterable[_Union[HeadGroup, _Mapping]]] = ..., slices: _Optional[int] = ..., fewest_slices: _Optional[int] = ..., coarsest_pixel_mm: _Optional[float] = ..., coarsest_slice_mm: _Optional[float] = ..., anatomy: _Optional[str] = ..., contrasts: _Optional[_Iterable[str]] = ...) -> None: ...

class HeadGroup(_message.Message):
    __slots__ = ("name", "classes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    name: str
    classes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., classes: _Optional[_Iterable[str]] = ...) -> None: ...

class GetModelHistoryRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetModelHistoryResponse(_message.Message):
    __slots__ = ("versions", "promotions")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    PROMOTIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[ModelVersion]
    promotions: _containers.RepeatedCompositeFieldContainer[ModelPromotion]
    def __init__(self, versions: _Optional[_Iterable[_Union[ModelVersion, _Mapping]]] = ..., promotions: _Optional[_Iterable[_Union[ModelPromotion, _Mapping]]] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("model", "added", "lineage", "use")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    model: Model
    added: str
    lineage: ModelLineage
    use: ModelUse
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., added: _Optional[str] = ..., lineage: _Optional[_Union[ModelLineage, _Mapping]] = ..., use: _Optional[_Union[ModelUse, _Mapping]] = ...) -> None: ...

class ModelLineage(_message.Message):
    __slots__ = ("parent", "hyperparameters", "metrics", "data")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    PARENT_FIELD_NUMBER: _ClassVar[int]
    HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    parent: str
    hyperparameters: str
    metrics: _containers.ScalarMap[str, float]
    data: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parent: _Optional[str] = ..., hyperparameters: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ..., data: _Optional[_Iterable[str]] = ...) -> None: ...

class ModelUse(_message.Message):
    __slots__ = ("requests", "failures", "mean_seconds", "mean_residual", "residuals")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    MEAN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MEAN_RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    RESIDUALS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    failures: int
    mean_seconds: float
    mean_residual: float
    residuals: int
    def __init__(self, requests: _Optional[int] = ..., failures: _Optional[int] = ..., mean_seconds: _Optional[float] = ..., mean_residual: _Optional[float] = ..., residuals: _Optional[int] = ...) -> None: ...

class ModelPromotion(_message.Message):
    __slots__ = ("version", "at", "action")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    version: str
    at: str
    action: str
    def __init__(self, version: _Optional[str] = ..., at: _Optional[str] = ..., action: _Optional[str] = ...) -> None: ...

class ModelContract(_message.Message):
    __slots__ = ("patterns", "acceleration", "coils", "rows", "columns", "calibration_rows", "calibration_columns", "requires_calibration", "anatomy", "contrast", "required")
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
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
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
    required: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, patterns: _Optional[_Iterable[str]] = ..., acceleration: _Optional[_Union[Range, _Mapping]] = ..., coils: _Optional[_Union[Range, _Mapping]] = ..., rows: _Optional[_Union[Range, _Mapping]] = ..., columns: _Optional[_Union[Range, _Mapping]] = ..., calibration_rows: _Optional[int] = ..., calibration_columns: _Optional[int] = ..., requires_calibration: bool = ..., anatomy: _Optional[str] = ..., contrast: _Optional[str] = ..., required: _Optional[_Iterable[str]] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("least", "most")
    LEAST_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    least: float
    most: float
    def __init__(self, least: _Optional[float] = ..., most: _Optional[float] = ...) -> None: ...
