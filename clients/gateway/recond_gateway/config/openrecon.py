"""The label of an OpenRecon container, version 1.1.0 of its schema: which rules it has, and that of this gateway."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from recond_gateway.config.label import Injector, LabelSettings, Qualification, Regulatory, Version
from recond_gateway.config.parameters import PARAMETERS, Parameter
from recond_gateway.config.settings import Settings
from recond_gateway.errors import ConfigurationError

LABEL_NAME: Final = "com.siemens-healthineers.magneticresonance.openrecon.metadata:1.1.0"
"""Under which an image of Docker carries the label, in base64."""

MOST_PARAMETERS: Final = 14
_TENTHS: Final = 1e-6


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _tenths(value: float) -> float:
    """Return a number that the scanner's user interface can show, which knows one decimal."""
    if abs(10 * value - round(10 * value)) > _TENTHS:
        raise ValueError(f"{value:g} is no multiple of 0.1")
    return value


Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
Tenths = Annotated[float, AfterValidator(_tenths)]


class Words(_Strict):
    """A text, in English; the schema has room for other languages."""

    en: str


class Unit(_Strict):
    """A unit."""

    en: Annotated[str, Field(min_length=1, max_length=3)]


class _Parameter(_Strict):
    id: Annotated[str, Field(pattern="^[A-Za-z0-9]+$")]
    label: Words
    information: Words | None = None


class BooleanParameter(_Parameter):
    """A box to tick."""

    type: Literal["boolean"] = "boolean"
    default: bool


class StringParameter(_Parameter):
    """A text."""

    type: Literal["string"] = "string"
    default: str | None = None
    isLargeText: bool | None = None  # noqa: N815 - as the schema has it


class Choice(_Strict):
    """One of the values of a choice."""

    id: Annotated[str, Field(min_length=1)]
    name: Words


class ChoiceParameter(_Parameter):
    """One of several values."""

    type: Literal["choice"] = "choice"
    default: str
    values: Annotated[tuple[Choice, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_its_default(self) -> Self:
        names = [choice.id for choice in self.values]
        if len(set(names)) < len(names):
            raise ValueError(f"parameter {self.id} has two choices of one id: {', '.join(names)}")
        if self.default not in names:
            raise ValueError(f"parameter {self.id} has the default {self.default!r}, which is none of its choices")
        return self


class _Number(_Parameter):
    unit: Unit | None = None

    @model_validator(mode="after")
    def _holds_its_default(self) -> Self:
        smallest, largest, default = (getattr(self, name) for name in ("minimum", "maximum", "default"))
        if not smallest <= default <= largest:
            raise ValueError(f"parameter {self.id} has the default {default:g}, not from {smallest:g} to {largest:g}")
        return self


class IntParameter(_Number):
    """A whole number."""

    type: Literal["int"] = "int"
    minimum: Int32
    maximum: Int32
    default: Int32


class DoubleParameter(_Number):
    """A number with one decimal."""

    type: Literal["double"] = "double"
    minimum: Tenths
    maximum: Tenths
    default: Tenths


AnyParameter: TypeAlias = Annotated[
    BooleanParameter | StringParameter | ChoiceParameter | IntParameter | DoubleParameter, Field(discriminator="type")
]


class TransferProtocol(_Strict):
    """How the host and the container talk."""

    protocol: Literal["ISMRMRD"] = "ISMRMRD"
    version: Literal["1.4.1"] = "1.4.1"


class ChannelCompression(_Strict):
    """What the host does with the coils before."""

    require_state: Literal["on", "off"] | None = None
    require_number_target_channels: Annotated[int, Field(ge=1)] | None = None


class Reconstruction(_Strict):
    """What the host must know to run the container."""

    transfer_protocol: TransferProtocol = TransferProtocol()
    port: int
    emitter: Literal["raw", "image"]
    injector: Injector
    can_process_adjustment_data: bool = False
    can_use_gpu: bool
    min_count_required_gpus: Annotated[int, Field(ge=0)] = 0
    min_required_gpu_memory: Annotated[int, Field(ge=0)] = 0
    min_required_memory: Annotated[int, Field(ge=0)]
    min_count_required_cpu_cores: Annotated[int, Field(ge=1)]
    content_qualification_type: Qualification = "RESEARCH"
    require_readout_filter_off: bool | None = None
    channel_compression: ChannelCompression | None = None


class General(_Strict):
    """What the operator reads."""

    name: Words
    version: Version
    vendor: str
    information: Words
    id: str
    license_string: str | None = None
    regulatory_information: Regulatory


class OpenReconLabel(_Strict):
    """A whole label."""

    general: General
    reconstruction: Reconstruction
    parameters: Annotated[tuple[AnyParameter, ...], Field(max_length=MOST_PARAMETERS)]

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        names = [parameter.id for parameter in self.parameters]
        if len(set(names)) < len(names):
            raise ValueError(f"two parameters have one id: {', '.join(names)}")
        return self

    def json_text(self) -> str:
        """Return the label as JSON."""
        return self.model_dump_json(exclude_none=True, indent=2)

    def base64_text(self) -> str:
        """Return the label as an image carries it."""
        return base64.b64encode(self.json_text().encode()).decode()


def openrecon_label(settings: Settings) -> OpenReconLabel:
    """Return the label of a container with this gateway.

    Parameters
    ----------
    settings
        Its group `label`, and its pipelines: the console may choose among them.

    Raises
    ------
    ConfigurationError
        The schema does not allow it; says where.
    """
    label = settings.label
    try:
        return OpenReconLabel(
            general=_general(label),
            reconstruction=Reconstruction(
                port=label.port,
                emitter="raw",
                injector=label.injector,
                can_use_gpu=label.gpu,
                min_count_required_gpus=label.gpus,
                min_required_gpu_memory=label.gpu_memory_mb,
                min_required_memory=label.memory_mb,
                min_count_required_cpu_cores=label.cpu_cores,
                content_qualification_type=label.qualification,
                require_readout_filter_off=True,
            ),
            parameters=(_config(settings), *(_parameter(each) for each in PARAMETERS)),
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigurationError(f"the label breaks a rule of OpenRecon: {where}: {message}", field="label") from error


def _general(label: LabelSettings) -> General:
    made = {
        "device_trade_name": label.name,
        "production_identifier": label.version,
        "material_number": f"{label.id}_{label.version}",
    }
    given = label.regulatory
    filled = given.model_copy(update={name: value for name, value in made.items() if not getattr(given, name)})
    return General(
        name=Words(en=label.name),
        version=label.version,
        vendor=label.vendor,
        information=Words(en=label.information),
        id=label.id,
        regulatory_information=filled,
    )


def _config(settings: Settings) -> ChoiceParameter:
    """Return the parameter by which the console chooses a pipeline; other containers have one of this name, too."""
    names = ["openrecon", *sorted(set(settings.pipelines) - {"openrecon", "default"})]
    return ChoiceParameter(
        id="config",
        label=Words(en="Pipeline"),
        information=Words(en="What is done with the scan, as the gateway is configured."),
        default="openrecon",
        values=tuple(Choice(id=name, name=Words(en=name)) for name in names),
    )


def _parameter(parameter: Parameter) -> AnyParameter:
    facts: dict[str, Any] = {
        "id": parameter.name,
        "label": Words(en=parameter.label),
        "information": Words(en=parameter.about),
        "default": parameter.default,
    }
    match parameter.kind:
        case "boolean":
            return BooleanParameter(**facts)
        case "string":
            return StringParameter(**facts)
        case "choice":
            return ChoiceParameter(
                **facts, values=tuple(Choice(id=name, name=Words(en=shown)) for name, shown in parameter.choices)
            )
        case "int" | "double":
            facts |= {"minimum": parameter.smallest, "maximum": parameter.largest}
            facts |= {"unit": Unit(en=parameter.unit)} if parameter.unit else {}
            return IntParameter(**facts) if parameter.kind == "int" else DoubleParameter(**facts)
