"""What the gateway is told to do: a TOML file, and what the scanner asks for at run time."""

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
    "PARAMETERS",
    "Limits",
    "Listen",
    "Logging",
    "Parameter",
    "Pipeline",
    "Privacy",
    "ServiceAddress",
    "Settings",
    "SpoolSettings",
    "chosen",
    "load_settings",
    "parameters_of",
]
