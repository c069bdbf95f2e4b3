"""What the label of an OpenRecon container says beside its parameters: the group ``[label]`` of the TOML file."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_SEMANTIC_VERSION = (
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$"
)

Version = Annotated[str, Field(pattern=_SEMANTIC_VERSION)]
Qualification = Literal["PRODUCT", "SERVICE", "RESEARCH"]
Injector = Literal["image", "compleximage"]


class Regulatory(BaseModel):
    """What the law asks to know of a device; whoever puts a container into service fills it in.

    Parameters
    ----------
    device_trade_name, production_identifier, material_number
        Empty: made from the name and version of the label.
    manufacturer_address, made_in, manufacture_date, gtin, udi
        As the manufacturer has them.
    safety_advices, special_operating_instructions, additional_relevant_information
        For the operator.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    device_trade_name: str = ""
    production_identifier: str = ""
    manufacturer_address: str = ""
    made_in: str = ""
    manufacture_date: str = ""
    material_number: str = ""
    gtin: str = ""
    udi: str = ""
    safety_advices: str = ""
    special_operating_instructions: str = ""
    additional_relevant_information: str = ""


class LabelSettings(BaseModel):
    """What the label says.

    Parameters
    ----------
    name, id, vendor, information
        What operators choose the container by, and what they read about it.
    version
        Of the container, as MAJOR.MINOR.PATCH; by default that of recond.
    qualification
        Whether images may be for diagnosis; `"RESEARCH"`: they may not.
    injector
        What comes back: `"image"`, or `"compleximage"` where a pipeline has `complex` among its `outputs`.
    port
        That the gateway listens on inside the container.
    memory_mb, cpu_cores
        Least that the container needs.
    gpu
        Whether it may use a GPU.
    gpus, gpu_memory_mb
        How many GPUs it needs, and how much of their memory.
    regulatory
        As the law wants it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "recond"
    id: str = "recond"
    vendor: str = "recond"
    information: str = "Reconstruction of raw data by networks and classical methods, with quality figures."
    version: Version = Field(default_factory=lambda: version("recond"), validate_default=True)
    qualification: Qualification = "RESEARCH"
    injector: Injector = "image"
    port: Annotated[int, Field(ge=1, le=65535)] = 9002
    memory_mb: Annotated[int, Field(ge=0)] = 8192
    cpu_cores: Annotated[int, Field(ge=1)] = 4
    gpu: bool = True
    gpus: Annotated[int, Field(ge=0)] = 0
    gpu_memory_mb: Annotated[int, Field(ge=0)] = 0
    regulatory: Regulatory = Regulatory()
