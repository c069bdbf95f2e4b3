"""The settings, in groups. Every setting has one name, whatever the group: see `Settings`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo

from recond_service.config.addresses import is_loopback, read_weights, split_address
from recond_service.types import Limits

_SECRET_FIELDS: Final = frozenset({"tls_key"})
_UNITS: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")

PositiveBytes = Annotated[ByteSize, Field(gt=0)]


def _half_of_memory() -> ByteSize:
    """Return half of the memory that this process may use, bytes: the machine's, or the container's if that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        limit = "max"
    return ByteSize(min(memory, int(limit)) // 2 if limit.isdigit() else memory // 2)


class SettingsGroup(BaseModel):
    """Settings that belong together: a table of the TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def require_readable(path: Path | None, info: ValidationInfo) -> Path | None:
    """Return a path; raise ValueError for one that cannot be read, unless the context says ``unread_files``."""
    told = (info.context or {}).get("unread_files", False)
    if path is not None and not told and not os.access(path, os.R_OK):
        msg = f"{str(path)!r} cannot be read"
        raise ValueError(msg)
    return path


class ServerSettings(SettingsGroup):
    """Where the service listens and how it ends."""

    listen: str = Field(
        default="127.0.0.1:50051", description="HOST:PORT that the service listens on; port 0 takes a free one."
    )
    metrics_listen: str = Field(
        default="127.0.0.1:9464", description="HOST:PORT of the HTTP server for /metrics; empty for none."
    )
    insecure: bool = Field(default=False, description="Allow an address other than loopback without TLS.")
    drain_seconds: float = Field(
        default=30.0, ge=0, description="How long accepted requests may take to finish after SIGTERM."
    )

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("listen")
    @classmethod
    def _somewhere(cls, value: str) -> str:
        if not value:
            msg = "listen must not be empty"
            raise ValueError(msg)
        return value


class TlsSettings(SettingsGroup):
    """Certificates of the service, and whose clients are let in."""

    tls_certificate: Path | None = Field(
        default=None, description="PEM file with the certificate chain of the service."
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the private key of the certificate.")
    tls_client_ca: Path | None = Field(
        default=None, description="PEM file with the authorities whose clients are let in (mutual TLS)."
    )

    @field_validator("tls_certificate", "tls_key", "tls_client_ca", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("tls_certificate", "tls_key", "tls_client_ca")
    @classmethod
    def _readable(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return require_readable(value, info)

    @model_validator(mode="after")
    def _together(self) -> TlsSettings:
        if (self.tls_certificate is None) != (self.tls_key is None):
            msg = "tls_certificate and tls_key go together: give both, or neither"
            raise ValueError(msg)
        if self.tls_client_ca is not None and self.tls_certificate is None:
            msg = "tls_client_ca needs tls_certificate and tls_key"
            raise ValueError(msg)
        return self


class LimitSettings(SettingsGroup):
    """What one request may claim."""

    max_scan_bytes: PositiveBytes = Field(
        default=ByteSize(4 << 30), description="Largest scan, uploaded or claimed by a file."
    )
    max_frame_bytes: PositiveBytes = Field(default=ByteSize(1 << 30), description="Largest k-space of one frame.")
    max_message_bytes: PositiveBytes = Field(
        default=ByteSize(64 << 20),
        description="Largest gRPC message; a frame that comes by the KServe protocol is one message.",
    )
    max_xml_bytes: PositiveBytes = Field(default=ByteSize(16 << 20), description="Largest ISMRMRD header.")
    max_images: int = Field(default=65536, ge=1, description="Most images in one request.")
    upload_idle_seconds: float = Field(
        default=30.0, gt=0, description="A client that is silent this long while uploading is cut off."
    )
    stream_idle_seconds: float = Field(
        default=600.0,
        gt=0,
        description="An acquisition stream that pauses this long is cut off: scanners wait for patients.",
    )


class AdmissionSettings(SettingsGroup):
    """How many requests are let in at once, and whose turn it is."""

    max_requests: int = Field(default=64, ge=1, description="Most requests at once; more are told to come back later.")
    max_bytes_in_flight: PositiveBytes = Field(
        default_factory=_half_of_memory,
        description="Uploads and frames of all requests together. Default: half of the memory.",
    )
    max_backlog_seconds: float = Field(
        default=300.0,
        gt=0,
        description="A request that is predicted to end later than this from now is told to come back.",
    )
    ageing_seconds: float = Field(
        default=10.0,
        gt=0,
        description="After this long without a turn, less urgent frames get one before more urgent ones.",
    )
    client_weights: str = Field(
        default="",
        description="Shares of competing clients by certificate name or address, 1 for all others: NAME=2,NAME=0.5.",
    )

    @field_validator("client_weights")
    @classmethod
    def _weights(cls, value: str) -> str:
        read_weights(value)
        return value


class ScanSettings(SettingsGroup):
    """The processes that parse scans."""

    scan_memory_bytes: PositiveBytes = Field(
        default=ByteSize(2 << 30),
        description="Address space of the process that parses one request, on top of its scan.",
    )
    scan_cpu_seconds: int = Field(
        default=120, ge=1, description="CPU time for parsing one request, seconds; in a comparison for each visit."
    )
    scan_process_requests: int = Field(
        default=32,
        ge=1,
        le=64,
        description="Requests of one connection that one parsing process may serve, one after another; 1 for a process each.",
    )


class ModelServerSettings(SettingsGroup):
    """What computes."""

    backend: Literal["embedded", "triton"] = Field(
        default="embedded", description="What computes: workers of this service, or Triton Inference Servers."
    )
    workers: int = Field(
        default=0, ge=0, description="Worker processes on the CPU, which share its cores; 0 for one, or one per GPU."
    )
    compute_threads: int = Field(
        default=0, ge=0, description="Threads of each worker; 0 to share the cores between them."
    )
    preload: str = Field(
        default="all",
        description="Models and heads that workers load at the start, by name, separated by commas; others at their first use.",
    )
    warm_up: str = Field(
        default="", description="Frames that workers are made ready for at the start: MODEL:COILSxROWSxCOLUMNS[,...]."
    )
    batch_seconds: float = Field(
        default=120.0,
        gt=0,
        description="A batch that takes longer than this, and 20 times longer than predicted, is taken to hang.",
    )
    worker_start_seconds: float = Field(
        default=120.0, gt=0, description="A worker that is not ready after this long is started again."
    )
    worker_heartbeat_seconds: float = Field(
        default=1.5,
        gt=0,
        description="A worker that is silent and does nothing for this long is taken for dead; a busy one gets ten times that.",
    )

    @property
    def preloaded(self) -> tuple[str, ...] | None:
        """Names in `preload`; None for all that ship."""
        if self.preload.strip() == "all":
            return None
        return tuple(name.strip() for name in self.preload.split(",") if name.strip())

    @property
    def warm_up_frames(self) -> tuple[str, ...]:
        """Entries of `warm_up`."""
        return tuple(entry.strip() for entry in self.warm_up.split(",") if entry.strip())


class TritonSettings(SettingsGroup):
    """Triton Inference Servers, for backend triton."""

    triton: str = Field(
        default="",
        description="Triton Inference Servers, for backend triton: HOST:PORT[,HOST:PORT...] of their gRPC ports.",
    )
    triton_ca: Path | None = Field(
        default=None,
        description="PEM file with the authorities that Triton servers are checked by; without it no TLS.",
    )
    triton_shared_memory: Literal["auto", "off"] = Field(
        default="auto", description="Hand frames to Triton servers on this machine in shared memory, or never."
    )

    head_workers: int = Field(
        default=1,
        ge=0,
        description="Worker processes on the CPU of this machine that run heads, for backend triton, whose servers run none; "
        "0 refuses heads.",
    )

    @field_validator("triton")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in filter(None, value.split(",")):
            split_address(address.strip())
        return value

    @field_validator("triton_ca", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("triton_ca")
    @classmethod
    def _readable(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return require_readable(value, info)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses of the servers."""
        return tuple(address.strip() for address in self.triton.split(",") if address.strip())


class TelemetrySettings(SettingsGroup):
    """Logs and spans."""

    otlp_endpoint: str = Field(
        default="", description="HOST:PORT of an OpenTelemetry collector (OTLP, gRPC) for spans; empty for none."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe message to log."
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="JSON objects, one per line, or text for people."
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value


class Settings(BaseModel):
    """Everything that can be set about a service.

    Every setting has one name in four places: ``--max-scan-bytes`` on the command line, ``RECOND_MAX_SCAN_BYTES`` in
    the environment, ``max_scan_bytes`` in the TOML file, there in the table of its group or in none, and the attribute of its group
    here. Sizes take numbers of bytes or text such as ``"4GiB"``. Unknown names in the file are refused. Unknown environment
    variables are not: container platforms inject their own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    server: ServerSettings = Field(default_factory=ServerSettings)
    tls: TlsSettings = Field(default_factory=TlsSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    admission: AdmissionSettings = Field(default_factory=AdmissionSettings)
    scans: ScanSettings = Field(default_factory=ScanSettings)
    models: ModelServerSettings = Field(default_factory=ModelServerSettings)
    triton: TritonSettings = Field(default_factory=TritonSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)

    @model_validator(mode="before")
    @classmethod
    def _in_groups(cls, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Put every setting into its group."""
        groups: dict[str, dict[str, Any]] = {}
        places = {name: group for group, name, _ in cls.fields()}
        for name, value in values.items():
            if name in cls.model_fields and isinstance(value, Mapping):
                groups.setdefault(name, {}).update(value)
            elif name in cls.model_fields and isinstance(value, SettingsGroup):
                groups.setdefault(name, {}).update(value.model_dump())
            elif name in places:
                groups.setdefault(places[name], {})[name] = value
            else:
                groups[name] = value  # refused as unknown
        return groups

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.models.backend == "triton" and not self.triton.addresses:
            msg = "backend triton needs triton: HOST:PORT of one server or several"
            raise ValueError(msg)
        if self.models.backend != "triton" and self.triton.addresses:
            msg = "triton names servers, but backend is not triton: say --backend triton"
            raise ValueError(msg)
        host, _ = split_address(self.server.listen)
        if not is_loopback(host) and self.tls.tls_certificate is None and not self.server.insecure:
            msg = (
                f"listen {self.server.listen!r} can be reached from other machines and would send scans in the clear: "
                "give tls_certificate and tls_key, or say --insecure if the network is protected otherwise"
            )
            raise ValueError(msg)
        return self

    @classmethod
    def fields(cls) -> Iterator[tuple[str, str, FieldInfo]]:
        """Give all settings: group, name and field, in the order in which they are shown."""
        for group, field in cls.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, SettingsGroup):
                for name, setting in kind.model_fields.items():
                    yield group, name, setting

    def request_limits(self) -> Limits:
        """Return what one request may claim; never more than all requests together may hold."""
        in_flight = int(self.admission.max_bytes_in_flight)
        return Limits(
            max_scan_bytes=min(int(self.limits.max_scan_bytes), in_flight),
            max_frame_bytes=min(int(self.limits.max_frame_bytes), in_flight),
            max_xml_bytes=int(self.limits.max_xml_bytes),
            max_images=self.limits.max_images,
        )

    def redacted(self) -> dict[str, str | int | float | bool]:
        """Return the settings by name for people to see: sizes with units, empty text for what is not set.

        Where the private key is becomes ``"<set>"``. Certificates are public, so their paths are shown.
        """
        shown: dict[str, str | int | float | bool] = {}
        for group, name, _ in self.fields():
            value = getattr(getattr(self, group), name)
            if name in _SECRET_FIELDS and value is not None:
                shown[name] = "<set>"
            elif isinstance(value, ByteSize):
                shown[name] = with_unit(value)
            elif value is None or isinstance(value, Path):
                shown[name] = "" if value is None else str(value)
            else:
                shown[name] = value
        return shown


def with_unit(size: int) -> str | int:
    """Return a size in the largest binary unit that shows it exactly."""
    for unit, name in _UNITS:
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return size
