"""GRAPPA as a plug-in of recond. This module is read wherever models are listed, so it does not import torch."""

from recond_models.contract import Contract
from recond_models.model import ModelInfo
from recond_models.plugins import Plugin

PLUGIN = Plugin(
    ModelInfo(
        name="grappa",
        version="1",
        description="GRAPPA: missing lines from their neighbours in all coils, combined by root sum of squares.",
        kind="classical",
        reference="Griswold et al. 2002, Magn Reson Med 47:1202-1210, doi:10.1002/mrm.10171",
        needs_calibration=True,
        fits_samples=False,
        licence="Apache-2.0",
        contract=Contract(patterns=("uniform",), acceleration=(1, 5), calibration=(16, 16), requires_calibration=True),
    ),
    "recond_grappa.reconstructor:Grappa",
)
