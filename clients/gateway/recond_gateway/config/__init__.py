"""What the gateway is told to do: a TOML file, and what the scanner asks for at run time."""

from recond_gateway.config.label import LabelSettings, Regulatory
from recond_gateway.config.openrecon import LABEL_NAME, OpenReconLabel, openrecon_label
from recond_gateway.config.parameters import PARAMETERS, Parameter, chosen, parameters_of
from recond_gateway.config.pipeline import Pipeline
from recond_gateway.config.settings import (
    Limits,
    Listen,
    Logging,
    Privacy,
    ServiceAddress,
    Settings,
    SpoolSettings,
    load_settings,
)

__all__ = [
    "LABEL_NAME",
    "PARAMETERS",
    "LabelSettings",
    "Limits",
    "Listen",
    "Logging",
    "OpenReconLabel",
    "Parameter",
    "Pipeline",
    "Privacy",
    "Regulatory",
    "ServiceAddress",
    "Settings",
    "SpoolSettings",
    "chosen",
    "load_settings",
    "openrecon_label",
    "parameters_of",
]
