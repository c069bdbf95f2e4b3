"""Settings of the service: one typed class, filled from flags, environment, a TOML file and defaults, in that order."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import click
from pydantic import ByteSize, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from recond_service.types import Limits

_SECRET_FIELDS: Final = frozenset({"tls_key"})
_UNITS: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_CGROUP_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")

_METAVARS: Final = {
    "triton": "HOST:PORT[,...]",
    "warm_up": "MODEL:COILSxROWSxCOLUMNS[,...]",
    "client_weights": "NAME=WEIGHT[,...]",
}

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
PositiveBytes = Annotated[ByteSize, Field(gt=0)]


class SettingsError(ValueError):
    """The settings are wrong; the message names every offending setting, its value and the remedy."""


def _half_of_memory() -> ByteSize:
    """Return half of the memory that this process may use, bytes: the machine's, or the container's if that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        limit = "max"
    return ByteSize(min(memory, int(limit)) // 2 if limit.isdigit() else memory // 2)


def split_address(address: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[IPV6]:PORT``.

    Parameters
    ----------
    address
        What to split. Port 0 means any free port.

    Returns
    -------
    The host without brackets, and the port.

    Raises
    ------
    ValueError
        If it is not of that form.
    """
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host != bare
    if not colon or not bare or not port.isdecimal() or int(port) > 65535 or (":" in bare and not bracketed):
        msg = f"{address!r} is not HOST:PORT (write an IPv6 address in brackets: [::1]:50051)"
        raise ValueError(msg)
    return bare, int(port)


def read_weights(text: str) -> dict[str, float]:
    """Return the weights of clients by name from ``NAME=WEIGHT[,NAME=WEIGHT...]``.

    Raises
    ------
    ValueError
        If an entry is not of that form, or a weight not positive.
    """
    weights = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = entry.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not name or not 0 < weight < float("inf"):
            msg = f"{entry!r} is not NAME=WEIGHT with a weight above 0"
            raise ValueError(msg)
        weights[name] = weight
    return weights


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Settings(BaseSettings):
    """Everything that can be set about a service.

    Every setting has one name in four places: ``--max-scan-bytes`` on the command line, ``RECOND_MAX_SCAN_BYTES`` in
    the environment, ``max_scan_bytes`` in the TOML file, and the attribute here. Sizes take numbers of bytes or text
    such as ``"4GiB"``. Unknown names in the file are refused. Unknown environment variables are not: container
    platforms inject their own.
    """

    model_config = SettingsConfigDict(env_prefix="RECOND_", extra="forbid", frozen=True, env_ignore_empty=False)

    listen: str = Field(
        "127.0.0.1:50051", description="HOST:PORT that the service listens on; port 0 takes a free one."
    )
    metrics_listen: str = Field(
        "127.0.0.1:9464", description="HOST:PORT of the HTTP server for /metrics; empty for none."
    )
    tls_certificate: Path | None = Field(None, description="PEM file with the certificate chain of the service.")
    tls_key: Path | None = Field(None, description="PEM file with the private key of the certificate.")
    tls_client_ca: Path | None = Field(
        None, description="PEM file with the authorities whose clients are let in (mutual TLS)."
    )
    insecure: bool = Field(False, description="Allow an address other than loopback without TLS.")
    max_scan_bytes: PositiveBytes = Field(ByteSize(4 << 30), description="Largest scan, uploaded or claimed by a file.")
    max_frame_bytes: PositiveBytes = Field(ByteSize(1 << 30), description="Largest k-space of one frame.")
    max_message_bytes: PositiveBytes = Field(
        ByteSize(64 << 20),
        description="Largest gRPC message; a frame that comes by the KServe protocol is one message.",
    )
    max_xml_bytes: PositiveBytes = Field(ByteSize(16 << 20), description="Largest ISMRMRD header.")
    max_images: int = Field(65536, ge=1, description="Most images in one request.")
    max_requests: int = Field(64, ge=1, description="Most requests at once; more are told to come back later.")
    max_bytes_in_flight: PositiveBytes = Field(
        default_factory=_half_of_memory,
        description="Uploads and frames of all requests together. Default: half of the memory.",
    )
    scan_memory_bytes: PositiveBytes = Field(
        ByteSize(2 << 30), description="Address space of the process that parses one request, on top of its scan."
    )
    scan_cpu_seconds: int = Field(120, ge=1, description="CPU time for parsing one request, seconds.")
    scan_process_requests: int = Field(
        32,
        ge=1,
        le=64,
        description="Requests of one connection that one parsing process may serve, one after another; 1 for a process each.",
    )
    upload_idle_seconds: float = Field(
        30.0, gt=0, description="A client that is silent this long while uploading is cut off."
    )
    stream_idle_seconds: float = Field(
        600.0, gt=0, description="An acquisition stream that pauses this long is cut off: scanners wait for patients."
    )
    max_backlog_seconds: float = Field(
        300.0, gt=0, description="A request that is predicted to end later than this from now is told to come back."
    )
    ageing_seconds: float = Field(
        10.0, gt=0, description="After this long without a turn, less urgent frames get one before more urgent ones."
    )
    client_weights: str = Field(
        "",
        description="Shares of competing clients by certificate name or address, 1 for all others: NAME=2,NAME=0.5.",
    )
    backend: Literal["embedded", "triton"] = Field(
        "embedded", description="What computes: workers of this service, or Triton Inference Servers."
    )
    triton: str = Field(
        "", description="Triton Inference Servers, for backend triton: HOST:PORT[,HOST:PORT...] of their gRPC ports."
    )
    triton_ca: Path | None = Field(
        None,
        description="PEM file with the authorities that Triton servers are checked by; without it no TLS.",
    )
    triton_shared_memory: Literal["auto", "off"] = Field(
        "auto", description="Hand frames to Triton servers on this machine in shared memory, or never."
    )
    workers: int = Field(
        0, ge=0, description="Worker processes on the CPU, which share its cores; 0 for one, or one per GPU."
    )
    compute_threads: int = Field(0, ge=0, description="Threads of each worker; 0 to share the cores between them.")
    warm_up: str = Field(
        "", description="Frames that workers are made ready for at the start: MODEL:COILSxROWSxCOLUMNS[,...]."
    )
    batch_seconds: float = Field(
        120.0,
        gt=0,
        description="A batch that takes longer than this, and 20 times longer than predicted, is taken to hang.",
    )
    worker_start_seconds: float = Field(
        120.0, gt=0, description="A worker that is not ready after this long is started again."
    )
    worker_heartbeat_seconds: float = Field(
        1.5,
        gt=0,
        description="A worker that is silent and does nothing for this long is taken for dead; a busy one gets ten times that.",
    )
    drain_seconds: float = Field(30.0, ge=0, description="How long accepted requests may take to finish after SIGTERM.")
    otlp_endpoint: str = Field(
        "", description="HOST:PORT of an OpenTelemetry collector (OTLP, gRPC) for spans; empty for none."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe message to log.")
    log_format: Literal["json", "console"] = Field(
        "json", description="JSON objects, one per line, or text for people."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read no dotenv file and no secrets folder that nobody asked for."""
        return init_settings, env_settings

    @field_validator("listen", "metrics_listen", "otlp_endpoint")
    @classmethod
    def _address(cls, value: str) -> str:
        if value:
            split_address(value)
        return value

    @field_validator("triton")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in filter(None, value.split(",")):
            split_address(address.strip())
        return value

    @field_validator("client_weights")
    @classmethod
    def _weights(cls, value: str) -> str:
        read_weights(value)
        return value

    @field_validator("tls_certificate", "tls_key", "tls_client_ca", "triton_ca", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("tls_certificate", "tls_key", "tls_client_ca", "triton_ca")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None and not os.access(value, os.R_OK):
            msg = f"{str(value)!r} cannot be read"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if not self.listen:
            msg = "listen must not be empty"
            raise ValueError(msg)
        if (self.tls_certificate is None) != (self.tls_key is None):
            msg = "tls_certificate and tls_key go together: give both, or neither"
            raise ValueError(msg)
        if self.tls_client_ca is not None and self.tls_certificate is None:
            msg = "tls_client_ca needs tls_certificate and tls_key"
            raise ValueError(msg)
        if self.backend == "triton" and not self.triton_addresses:
            msg = "backend triton needs triton: HOST:PORT of one server or several"
            raise ValueError(msg)
        if self.backend != "triton" and self.triton_addresses:
            msg = "triton names servers, but backend is not triton: say --backend triton"
            raise ValueError(msg)
        host, _ = split_address(self.listen)
        if not is_loopback(host) and self.tls_certificate is None and not self.insecure:
            msg = (
                f"listen {self.listen!r} can be reached from other machines and would send scans in the clear: "
                "give tls_certificate and tls_key, or say --insecure if the network is protected otherwise"
            )
            raise ValueError(msg)
        return self

    @property
    def triton_addresses(self) -> tuple[str, ...]:
        """Addresses of Triton servers."""
        return tuple(address.strip() for address in self.triton.split(",") if address.strip())

    @property
    def warm_up_frames(self) -> tuple[str, ...]:
        """Entries of `warm_up`."""
        return tuple(entry.strip() for entry in self.warm_up.split(",") if entry.strip())

    def limits(self) -> Limits:
        """Return what one request may claim; never more than all requests together may hold."""
        return Limits(
            max_scan_bytes=min(int(self.max_scan_bytes), int(self.max_bytes_in_flight)),
            max_frame_bytes=min(int(self.max_frame_bytes), int(self.max_bytes_in_flight)),
            max_xml_bytes=int(self.max_xml_bytes),
            max_images=self.max_images,
        )

    def redacted(self) -> dict[str, str | int | float | bool]:
        """Return the settings for people to see: sizes with units, empty text for what is not set.

        Where the private key is becomes ``"<set>"``. Certificates are public, so their paths are shown.
        """
        shown: dict[str, str | int | float | bool] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in _SECRET_FIELDS and value is not None:
                shown[name] = "<set>"
            elif isinstance(value, ByteSize):
                shown[name] = _with_unit(value)
            elif value is None or isinstance(value, Path):
                shown[name] = "" if value is None else str(value)
            else:
                shown[name] = value
        return shown


def _with_unit(size: int) -> str | int:
    """Return a size in the largest binary unit that shows it exactly."""
    for unit, name in _UNITS:
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return size


def load_settings(config_path: Path | None, flags: Mapping[str, Any]) -> Settings:
    """Put the settings together: flags, then the environment, then the file, then the defaults.

    Parameters
    ----------
    config_path
        TOML file whose top-level keys are names of settings, or None.
    flags
        Values by name of setting, as `settings_options` hands them to a command; None means not given.

    Raises
    ------
    SettingsError
        If the file cannot be read, or a setting is unknown, malformed or does not go with the others.
    """
    values: dict[str, Any] = {}
    if config_path is not None:
        try:
            values = tomllib.loads(config_path.read_text(encoding="utf-8"))
        except OSError as error:
            msg = f"cannot read {config_path}: {error.strerror}"
            raise SettingsError(msg) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            msg = f"{config_path} is not TOML: {error}"
            raise SettingsError(msg) from error
    values |= EnvSettingsSource(Settings)()
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    """Return one line per wrong setting, without the values of secrets."""
    lines = []
    for item in error.errors(include_url=False):
        name = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "there is no such setting"
        elif name and item["type"] != "value_error":
            message += f" (got {item['input']!r})"
        lines.append(f"{name}: {message}" if name else message)
    return "; ".join(lines)


def settings_options(function: Decorated) -> Decorated:
    """Decorate a click command with one option per setting; those not given arrive as None."""
    for name, field in reversed(Settings.model_fields.items()):
        function = _option(name, field)(function)
    return function


def _option(name: str, field: FieldInfo) -> Callable[[Decorated], Decorated]:
    """Return the click option of a setting. Only pydantic checks values: every source gets the same messages."""
    flag = "--" + name.replace("_", "-")
    default = None if field.default_factory is not None else field.get_default()
    shown = _with_unit(default) if isinstance(default, ByteSize) else default
    if isinstance(shown, float):
        shown = f"{shown:g}"
    text = (field.description or "") + ("" if shown in (None, "", False) else f" Default: {shown}.")
    if field.annotation is bool:
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", name, default=None, help=text)
    if get_origin(field.annotation) is Literal:
        return click.option(flag, name, type=click.Choice(get_args(field.annotation)), default=None, help=text)
    metavars: dict[object, str] = {ByteSize: "SIZE", str: "HOST:PORT", int: "N", float: "SECONDS"}
    metavar = _METAVARS.get(name, metavars.get(field.annotation, "FILE"))
    return click.option(flag, name, metavar=metavar, default=None, help=text)
