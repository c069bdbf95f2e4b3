"""The configuration of a gateway: a TOML file, or options of the command."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from recond_client.channel import check_target
from recond_client.errors import InputError
from recond_gateway.config.label import LabelSettings
from recond_gateway.config.pipeline import OPENRECON, Pipeline
from recond_gateway.errors import ConfigurationError


def _network(value: object) -> object:
    """Return a network that is given as text.

    Raises
    ------
    ValueError
        It is none; says what was meant, where that is clear.
    """
    if not isinstance(value, str):
        return value
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        meant = f"; the network of this address is {ipaddress.ip_network(value, strict=False)}"
    except ValueError:
        meant = ", such as 192.168.2.0/24"
    raise ValueError(f"{value!r} is not a network (CIDR){meant}")


Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, PlainValidator(_network)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]

_ADDRESS: Final = re.compile(r"(\[[^\[\]]+\]|[^:\[\]\s]+):([0-9]{1,5})")
_DEVICE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


def _host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of an address to listen on.

    Raises
    ------
    ValueError
        It has others.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found[2]) > 65535:
        raise ValueError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:9002 or [::1]:9002")
    return found[1].strip("[]"), int(found[2])


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceAddress(_Group):
    """Where the service is.

    Parameters
    ----------
    server
        ``HOST:PORT`` or another target of gRPC; empty for a service of the gateway's own.
    ca, certificate, key
        PEM files for mutual TLS.
    wait
        Seconds that a console waits behind its CLOSE while the service is away; then the scan stays in the spool.
    """

    server: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    wait: Seconds = 60.0

    @field_validator("server")
    @classmethod
    def _is_a_target(cls, value: str) -> str:
        if value:
            try:
                check_target(value)
            except InputError as error:
                raise ValueError(error.message) from error
        return value


class Listen(_Group):
    """A port for scanners.

    Parameters
    ----------
    address
        ``HOST:PORT``; port 0 takes a free one.
    device
        Which scanner it is for: labels metrics, logs and what the spool keeps. One device to a port.
    scanner_network
        Networks (CIDR) that scanners may connect from. Without one only the loopback interface can be listened on.
    pipeline
        What names of configurations that are not in the table stand for.
    connections
        Most sessions at once.
    protocol
        ``"mrd"``: version 1, as scanners speak it; ``"mrd2"``: a stream of MRD version 2 each way.
    """

    address: str = "127.0.0.1:9002"
    device: str = "scanner"
    scanner_network: tuple[Network, ...] = ()
    pipeline: str = "default"
    connections: Annotated[int, Field(ge=1, le=1000)] = 8
    protocol: Literal["mrd", "mrd2"] = "mrd"

    @field_validator("device")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        if not _DEVICE.fullmatch(value):
            raise ValueError("a device is named by letters, digits, dots, dashes and underscores, at most 64 of them")
        return value

    @property
    def host(self) -> str:
        """Host to bind."""
        return _host_and_port(self.address)[0]

    @property
    def port(self) -> int:
        """Port to bind."""
        return _host_and_port(self.address)[1]

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _is_protected(self) -> Self:
        if not self.loopback and not self.scanner_network:
            raise ValueError(
                f"{self.address} can be reached from other machines, and the protocol of scanners knows neither encryption nor "
                "passwords: name the network of the scanners with --scanner-network CIDR (scanner_network in the file)"
            )
        return self


class SpoolSettings(_Group):
    """Where scans are kept until their images are delivered.

    Parameters
    ----------
    folder
        Of this gateway alone.
    key_file
        32 bytes that the spool is encrypted with; made if it is not there. Beside the folder by default.
    max_bytes
        Most bytes on disk.
    min_free_bytes
        Free space that is left to others.
    memory_bytes
        Most memory for what was received and not yet read by the service, all scans together.
    hold
        Seconds that finished images wait for their console to come back.
    """

    folder: Path = Path("recond-spool")
    key_file: Path | None = None
    max_bytes: Annotated[int, Field(ge=_MIB)] = 64 * _GIB
    min_free_bytes: Annotated[int, Field(ge=0)] = _GIB
    memory_bytes: Annotated[int, Field(ge=_MIB)] = 256 * _MIB
    hold: Annotated[float, Field(gt=0)] = 86_400.0


class Limits(_Group):
    """What a scanner may ask of the gateway.

    Parameters
    ----------
    config_seconds, header_seconds
        Longest wait for the configuration and for the header.
    idle_seconds
        Longest silence during a scan: breath-holds and pauses of the operator included.
    write_seconds
        Longest wait for a console that does not read.
    stop_seconds
        How long scans that are under way may go on when the gateway is told to stop; what is not delivered then stays in the spool.
    text_bytes
        Longest TEXT, HEADER or CONFIG_TEXT message.
    """

    config_seconds: Seconds = 30.0
    header_seconds: Seconds = 60.0
    idle_seconds: Seconds = 600.0
    write_seconds: Seconds = 60.0
    stop_seconds: Annotated[float, Field(ge=0, le=3600)] = 20.0
    text_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 16 * _MIB


class Privacy(_Group):
    """What leaves the gateway.

    Parameters
    ----------
    deidentify
        Take out of headers what identifies a person. Off only where the service may know the patient.
    key_file
        Secret of this site, which makes pseudonyms of identifiers; made if it is not there. Beside the spool by default.
    restore
        Put the patient's attributes back on the images that return to the console.
    """

    deidentify: bool = True
    key_file: Path | None = None
    restore: bool = True


class Logging(_Group):
    """Logs and metrics.

    Parameters
    ----------
    level, format
        Least severe message; ``"json"`` or ``"console"``. On stderr.
    metrics_listen
        ``HOST:PORT`` for Prometheus; empty for none.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"
    metrics_listen: str = ""

    @field_validator("metrics_listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value:
            _host_and_port(value)
        return value

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host and port for the metrics."""
        return _host_and_port(self.metrics_listen)


class Settings(_Group):
    """All settings of a gateway; `listen` has one entry for each port."""

    service: ServiceAddress = ServiceAddress()
    listen: tuple[Listen, ...] = (Listen(),)
    spool: SpoolSettings = SpoolSettings()
    limits: Limits = Limits()
    privacy: Privacy = Privacy()
    logging: Logging = Logging()
    pipelines: dict[str, Pipeline] = Field(default_factory=dict)
    label: LabelSettings = Field(default_factory=LabelSettings)

    @model_validator(mode="after")
    def _names_what_is_there(self) -> Self:
        if not self.listen:
            raise ValueError("there is no port to listen on: give [[listen]]")
        for listen in self.listen:
            if listen.pipeline not in {"default", "openrecon", *self.pipelines}:
                raise ValueError(f"device {listen.device} names a pipeline that is not there: {listen.pipeline!r}")
        devices = [listen.device for listen in self.listen]
        if len(set(devices)) != len(devices):
            raise ValueError("two ports have the same device: one device to a port")
        addresses = [(listen.host, listen.port) for listen in self.listen if listen.port]
        if len(set(addresses)) != len(addresses):
            raise ValueError("two devices have the same address: give each a port of its own")
        return self

    def pipeline(self, name: str, listen: Listen) -> tuple[Pipeline, str]:
        """Return the pipeline that a name of a configuration stands for on a port, and its own name."""
        if name in self.pipelines:
            return self.pipelines[name], name
        if name == "openrecon":
            return OPENRECON, name
        return self.pipelines.get(listen.pipeline, Pipeline()), listen.pipeline


def load_settings(file: Path | None, changes: dict[str, Any]) -> Settings:
    """Return the settings of a TOML file, with what the command line says on top.

    Parameters
    ----------
    file
        None for the defaults.
    changes
        Groups and their values, as in the file; `listen` replaces that of the file.

    Raises
    ------
    ConfigurationError
        The file cannot be read, or a value is wrong; says where.
    """
    read: dict[str, Any] = {}
    if file is not None:
        try:
            read = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file} is not TOML: {error}") from error
    for group, values in changes.items():
        held = read.get(group, {})
        if isinstance(values, list):
            read[group] = values
        elif isinstance(held, dict):  # what is none is told below
            read[group] = {**held, **values}
    try:
        return Settings.model_validate(read)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = (
            "there is no setting of this name"
            if first["type"] == "extra_forbidden"
            else str(first["msg"]).removeprefix("Value error, ")
        )
        raise ConfigurationError(f"{where + ': ' if where else ''}{message}", field=where) from error
