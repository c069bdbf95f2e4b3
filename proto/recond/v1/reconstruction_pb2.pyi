from recond.v1 import heads_pb2 as _heads_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PartialFourier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PARTIAL_FOURIER_UNSPECIFIED: _ClassVar[PartialFourier]
    PARTIAL_FOURIER_ZERO_FILL: _ClassVar[PartialFourier]
    PARTIAL_FOURIER_POCS: _ClassVar[PartialFourier]

class PartRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PART_ROLE_UNSPECIFIED: _ClassVar[PartRole]
    PART_ROLE_KSPACE: _ClassVar[PartRole]
    PART_ROLE_KSPACE_HEADER: _ClassVar[PartRole]
    PART_ROLE_MASK: _ClassVar[PartRole]
    PART_ROLE_REFERENCE: _ClassVar[PartRole]

class PartFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PART_FORMAT_UNSPECIFIED: _ClassVar[PartFormat]
    PART_FORMAT_ISMRMRD_HDF5: _ClassVar[PartFormat]
    PART_FORMAT_FASTMRI_HDF5: _ClassVar[PartFormat]
    PART_FORMAT_BART_CFL: _ClassVar[PartFormat]
    PART_FORMAT_BART_HDR: _ClassVar[PartFormat]
    PART_FORMAT_ARRAY: _ClassVar[PartFormat]
    PART_FORMAT_MRD2: _ClassVar[PartFormat]

class UndersamplingKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNDERSAMPLING_KIND_UNSPECIFIED: _ClassVar[UndersamplingKind]
    UNDERSAMPLING_KIND_RANDOM: _ClassVar[UndersamplingKind]
    UNDERSAMPLING_KIND_EQUISPACED: _ClassVar[UndersamplingKind]
    UNDERSAMPLING_KIND_EQUISPACED_FRACTION: _ClassVar[UndersamplingKind]

class OutputFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTPUT_FORMAT_UNSPECIFIED: _ClassVar[OutputFormat]
    OUTPUT_FORMAT_FASTMRI_HDF5: _ClassVar[OutputFormat]
    OUTPUT_FORMAT_MRD: _ClassVar[OutputFormat]
    OUTPUT_FORMAT_NIFTI: _ClassVar[OutputFormat]
    OUTPUT_FORMAT_PNG: _ClassVar[OutputFormat]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_STAT: _ClassVar[Priority]
    PRIORITY_CLINICAL: _ClassVar[Priority]
    PRIORITY_RESEARCH: _ClassVar[Priority]

class PixelType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PIXEL_TYPE_UNSPECIFIED: _ClassVar[PixelType]
    PIXEL_TYPE_FLOAT32: _ClassVar[PixelType]
    PIXEL_TYPE_COMPLEX64: _ClassVar[PixelType]

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_UNSPECIFIED: _ClassVar[Severity]
    SEVERITY_INFO: _ClassVar[Severity]
    SEVERITY_WARNING: _ClassVar[Severity]
PARTIAL_FOURIER_UNSPECIFIED: PartialFourier
PARTIAL_FOURIER_ZERO_FILL: PartialFourier
PARTIAL_FOURIER_POCS: PartialFourier
PART_ROLE_UNSPECIFIED: PartRole
PART_ROLE_KSPACE: PartRole
PART_ROLE_KSPACE_HEADER: PartRole
PART_ROLE_MASK: PartRole
PART_ROLE_REFERENCE: PartRole
PART_FORMAT_UNSPECIFIED: PartFormat
PART_FORMAT_ISMRMRD_HDF5: PartFormat
PART_FORMAT_FASTMRI_HDF5: PartFormat
PART_FORMAT_BART_CFL: PartFormat
PART_FORMAT_BART_HDR: PartFormat
PART_FORMAT_ARRAY: PartFormat
PART_FORMAT_MRD2: PartFormat
UNDERSAMPLING_KIND_UNSPECIFIED: UndersamplingKind
UNDERSAMPLING_KIND_RANDOM: UndersamplingKind
UNDERSAMPLING_KIND_EQUISPACED: UndersamplingKind
UNDERSAMPLING_KIND_EQUISPACED_FRACTION: UndersamplingKind
OUTPUT_FORMAT_UNSPECIFIED: OutputFormat
OUTPUT_FORMAT_FASTMRI_HDF5: OutputFormat
OUTPUT_FORMAT_MRD: OutputFormat
OUTPUT_FORMAT_NIFTI: OutputFormat
OUTPUT_FORMAT_PNG: OutputFormat
PRIORITY_UNSPECIFIED: Priority
PRIORITY_STAT: Priority
PRIORITY_CLINICAL: Priority
PRIORITY_RESEARCH: Priority
PIXEL_TYPE_UNSPECIFIED: PixelType
PIXEL_TYPE_FLOAT32: PixelType
PIXEL_TYPE_COMPLEX64: PixelType
SEVERITY_UNSPECIFIED: Severity
SEVERITY_INFO: Severity
SEVERITY_WARNING: Severity

class ReconstructRequest(_message.Message):
    __slots__ = ("spec", "chunk", "mrd_header", "acquisitions")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    MRD_HEADER_FIELD_NUMBER: _ClassVar[int]
    ACQUISITIONS_FIELD_NUMBER: _ClassVar[int]
    spec: ReconstructSpec
    chunk: Chunk
    mrd_header: MrdHeader
    acquisitions: AcquisitionBatch
    def __init__(self, spec: _Optional[_Union[ReconstructSpec, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., mrd_header: _Optional[_Union[MrdHeader, _Mapping]] = ..., acquisitions: _Optional[_Union[AcquisitionBatch, _Mapping]] = ...) -> None: ...

class ReconstructResponse(_message.Message):
    __slots__ = ("accepted", "plan", "image", "file_chunk", "summary", "head", "head_map")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    FILE_CHUNK_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HEAD_MAP_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    plan: Plan
    image: Image
    file_chunk: FileChunk
    summary: Summary
    head: _heads_pb2.HeadResult
    head_map: _heads_pb2.HeadMap
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., image: _Optional[_Union[Image, _Mapping]] = ..., file_chunk: _Optional[_Union[FileChunk, _Mapping]] = ..., summary: _Optional[_Union[Summary, _Mapping]] = ..., head: _Optional[_Union[_heads_pb2.HeadResult, _Mapping]] = ..., head_map: _Optional[_Union[_heads_pb2.HeadMap, _Mapping]] = ...) -> None: ...

class ReconstructSpec(_message.Message):
    __slots__ = ("model", "model_version", "parts", "acquisition_stream", "outputs", "undersampling", "heads", "priority", "omit_images", "conditioning", "stack", "complex_images", "uncertainty", "attention")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    ACQUISITION_STREAM_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    UNDERSAMPLING_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    OMIT_IMAGES_FIELD_NUMBER: _ClassVar[int]
    CONDITIONING_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    COMPLEX_IMAGES_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_version: str
    parts: Parts
    acquisition_stream: AcquisitionStream
    outputs: _containers.RepeatedScalarFieldContainer[OutputFormat]
    undersampling: Undersampling
    heads: _containers.RepeatedScalarFieldContainer[str]
    priority: Priority
    omit_images: bool
    conditioning: Conditioning
    stack: str
    complex_images: bool
    uncertainty: bool
    attention: bool
    def __init__(self, model: _Optional[str] = ..., model_version: _Optional[str] = ..., parts: _Optional[_Union[Parts, _Mapping]] = ..., acquisition_stream: _Optional[_Union[AcquisitionStream, _Mapping]] = ..., outputs: _Optional[_Iterable[_Union[OutputFormat, str]]] = ..., undersampling: _Optional[_Union[Undersampling, _Mapping]] = ..., heads: _Optional[_Iterable[str]] = ..., priority: _Optional[_Union[Priority, str]] = ..., omit_images: bool = ..., conditioning: _Optional[_Union[Conditioning, _Mapping]] = ..., stack: _Optional[str] = ..., complex_images: bool = ..., uncertainty: bool = ..., attention: bool = ...) -> None: ...

class Conditioning(_message.Message):
    __slots__ = ("partial_fourier", "virtual_coils", "coil_energy")
    PARTIAL_FOURIER_FIELD_NUMBER: _ClassVar[int]
    VIRTUAL_COILS_FIELD_NUMBER: _ClassVar[int]
    COIL_ENERGY_FIELD_NUMBER: _ClassVar[int]
    partial_fourier: PartialFourier
    virtual_coils: int
    coil_energy: float
    def __init__(self, partial_fourier: _Optional[_Union[PartialFourier, str]] = ..., virtual_coils: _Optional[int] = ..., coil_energy: _Optional[float] = ...) -> None: ...

class Parts(_message.Message):
    __slots__ = ("parts",)
    PARTS_FIELD_NUMBER: _ClassVar[int]
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    def __init__(self, parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("role", "format", "name", "size_bytes", "shape")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    role: PartRole
    format: PartFormat
    name: str
    size_bytes: int
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, role: _Optional[_Union[PartRole, str]] = ..., format: _Optional[_Union[PartFormat, str]] = ..., name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class AcquisitionStream(_message.Message):
    __slots__ = ("expected_bytes",)
    EXPECTED_BYTES_FIELD_NUMBER: _ClassVar[int]
    expected_bytes: int
    def __init__(self, expected_bytes: _Optional[int] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("part", "offset", "data")
    PART_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    part: int
    offset: int
    data: bytes
    def __init__(self, part: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class MrdHeader(_message.Message):
    __slots__ = ("xml",)
    XML_FIELD_NUMBER: _ClassVar[int]
    xml: bytes
    def __init__(self, xml: _Optional[bytes] = ...) -> None: ...

class AcquisitionBatch(_message.Message):
    __slots__ = ("count", "headers", "trajectories", "samples")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    TRAJECTORIES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    count: int
    headers: bytes
    trajectories: bytes
    samples: bytes
    def __init__(self, count: _Optional[int] = ..., headers: _Optional[bytes] = ..., trajectories: _Optional[bytes] = ..., samples: _Optional[bytes] = ...) -> None: ...

class Undersampling(_message.Message):
    __slots__ = ("kind", "acceleration", "center_fraction")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACCELERATION_FIELD_NUMBER: _ClassVar[int]
    CENTER_FRACTION_FIELD_NUMBER: _ClassVar[int]
    kind: UndersamplingKind
    acceleration: float
    center_fraction: float
    def __init__(self, kind: _Optional[_Union[UndersamplingKind, str]] = ..., acceleration: _Optional[float] = ..., center_fraction: _Optional[float] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("model", "version", "reason", "images")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    reason: str
    images: int
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., reason: _Optional[str] = ..., images: _Optional[int] = ...) -> None: ...

class ImageIndex(_message.Message):
    __slots__ = ("image", "slice", "contrast", "phase", "repetition", "set", "stack")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    SLICE_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    REPETITION_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    image: int
    slice: int
    contrast: int
    phase: int
    repetition: int
    set: int
    stack: int
    def __init__(self, image: _Optional[int] = ..., slice: _Optional[int] = ..., contrast: _Optional[int] = ..., phase: _Optional[int] = ..., repetition: _Optional[int] = ..., set: _Optional[int] = ..., stack: _Optional[int] = ...) -> None: ...

class Geometry(_message.Message):
    __slots__ = ("position", "row_direction", "column_direction", "slice_direction", "spacing")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ROW_DIRECTION_FIELD_NUMBER: _ClassVar[int]
    COLUMN_DIRECTION_FIELD_NUMBER: _ClassVar[int]
    SLICE_DIRECTION_FIELD_NUMBER: _ClassVar[int]
    SPACING_FIELD_NUMBER: _ClassVar[int]
    position: _containers.RepeatedScalarFieldContainer[float]
    row_direction: _containers.RepeatedScalarFieldContainer[float]
    column_direction: _containers.RepeatedScalarFieldContainer[float]
    slice_direction: _containers.RepeatedScalarFieldContainer[float]
    spacing: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, position: _Optional[_Iterable[float]] = ..., row_direction: _Optional[_Iterable[float]] = ..., column_direction: _Optional[_Iterable[float]] = ..., slice_direction: _Optional[_Iterable[float]] = ..., spacing: _Optional[_Iterable[float]] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("index", "rows", "columns", "first_row", "pixels", "geometry", "pixel_type", "uncertainty", "data_consistency_residual", "findings")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROW_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    GEOMETRY_FIELD_NUMBER: _ClassVar[int]
    PIXEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    DATA_CONSISTENCY_RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    index: ImageIndex
    rows: int
    columns: int
    first_row: int
    pixels: bytes
    geometry: Geometry
    pixel_type: PixelType
    uncertainty: bytes
    data_consistency_residual: float
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, index: _Optional[_Union[ImageIndex, _Mapping]] = ..., rows: _Optional[int] = ..., columns: _Optional[int] = ..., first_row: _Optional[int] = ..., pixels: _Optional[bytes] = ..., geometry: _Optional[_Union[Geometry, _Mapping]] = ..., pixel_type: _Optional[_Union[PixelType, str]] = ..., uncertainty: _Optional[bytes] = ..., data_consistency_residual: _Optional[float] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class FileChunk(_message.Message):
    __slots__ = ("format", "offset", "size_bytes", "data", "stack", "part")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    format: OutputFormat
    offset: int
    size_bytes: int
    data: bytes
    stack: str
    part: str
    def __init__(self, format: _Optional[_Union[OutputFormat, str]] = ..., offset: _Optional[int] = ..., size_bytes: _Optional[int] = ..., data: _Optional[bytes] = ..., stack: _Optional[str] = ..., part: _Optional[str] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("code", "severity", "message", "count")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    code: str
    severity: Severity
    message: str
    count: int
    def __init__(self, code: _Optional[str] = ..., severity: _Optional[_Union[Severity, str]] = ..., message: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Figures(_message.Message):
    __slots__ = ("ssim", "psnr", "nmse", "data_consistency_residual", "noise_level", "ssim_object", "psnr_object", "nmse_object")
    SSIM_FIELD_NUMBER: _ClassVar[int]
    PSNR_FIELD_NUMBER: _ClassVar[int]
    NMSE_FIELD_NUMBER: _ClassVar[int]
    DATA_CONSISTENCY_RESIDUAL_FIELD_NUMBER: _ClassVar[int]
    NOISE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    SSIM_OBJECT_FIELD_NUMBER: _ClassVar[int]
    PSNR_OBJECT_FIELD_NUMBER: _ClassVar[int]
    NMSE_OBJECT_FIELD_NUMBER: _ClassVar[int]
    ssim: float
    psnr: float
    nmse: float
    data_consistency_residual: float
    noise_level: float
    ssim_object: float
    psnr_object: float
    nmse_object: float
    def __init__(self, ssim: _Optional[float] = ..., psnr: _Optional[float] = ..., nmse: _Optional[float] = ..., data_consistency_residual: _Optional[float] = ..., noise_level: _Optional[float] = ..., ssim_object: _Optional[float] = ..., psnr_object: _Optional[float] = ..., nmse_object: _Optional[float] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("upload", "ingest", "conditioning", "queue", "compute", "encode", "total")
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    INGEST_FIELD_NUMBER: _ClassVar[int]
    CONDITIONING_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    upload: float
    ingest: float
    conditioning: float
    queue: float
    compute: float
    encode: float
    total: float
    def __init__(self, upload: _Optional[float] = ..., ingest: _Optional[float] = ..., conditioning: _Optional[float] = ..., queue: _Optional[float] = ..., compute: _Optional[float] = ..., encode: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("model", "version", "weights_sha256", "images", "shape", "figures", "seconds", "findings", "reference", "order", "stacks", "evidence")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    STACKS_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    weights_sha256: str
    images: int
    shape: _containers.RepeatedScalarFieldContainer[int]
    figures: Figures
    seconds: Timings
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    reference: str
    order: _containers.RepeatedScalarFieldContainer[int]
    stacks: _containers.RepeatedCompositeFieldContainer[Stack]
    evidence: Evidence
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., weights_sha256: _Optional[str] = ..., images: _Optional[int] = ..., shape: _Optional[_Iterable[int]] = ..., figures: _Optional[_Union[Figures, _Mapping]] = ..., seconds: _Optional[_Union[Timings, _Mapping]] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., reference: _Optional[str] = ..., order: _Optional[_Iterable[int]] = ..., stacks: _Optional[_Iterable[_Union[Stack, _Mapping]]] = ..., evidence: _Optional[_Union[Evidence, _Mapping]] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("model", "preferred", "candidates", "slices", "seconds", "not_tried")
    class Candidate(_message.Message):
        __slots__ = ("model", "held_out_error", "expected_ssim")
        MODEL_FIELD_NUMBER: _ClassVar[int]
        HELD_OUT_ERROR_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_SSIM_FIELD_NUMBER: _ClassVar[int]
        model: str
        held_out_error: float
        expected_ssim: float
        def __init__(self, model: _Optional[str] = ..., held_out_error: _Optional[float] = ..., expected_ssim: _Optional[float] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PREFERRED_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    NOT_TRIED_FIELD_NUMBER: _ClassVar[int]
    model: str
    preferred: str
    candidates: _containers.RepeatedCompositeFieldContainer[Evidence.Candidate]
    slices: int
    seconds: float
    not_tried: str
    def __init__(self, model: _Optional[str] = ..., preferred: _Optional[str] = ..., candidates: _Optional[_Iterable[_Union[Evidence.Candidate, _Mapping]]] = ..., slices: _Optional[int] = ..., seconds: _Optional[float] = ..., not_tried: _Optional[str] = ...) -> None: ...

class Stack(_message.Message):
    __slots__ = ("name", "images", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    images: _containers.RepeatedScalarFieldContainer[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., images: _Optional[_Iterable[int]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...
