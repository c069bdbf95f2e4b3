"""NV-Raw2Insights-MRI as a plug-in of recond. This module is read wherever models are listed, so it does not import torch."""

from recond_models.contract import Contract
from recond_models.model import ModelInfo
from recond_models.plugins import Plugin

PLUGIN = Plugin(
    ModelInfo(
        name="raw2insights",
        version="1",
        description="NV-Raw2Insights-MRI, run by its own code with its own weights.",
        kind="network",
        reference="Wang et al. 2025, SDUM, arXiv:2512.17137",
        needs_calibration=True,
        fits_samples=False,
        licence="code Apache-2.0, weights NVIDIA Open Model License",
        source="https://github.com/NVIDIA-Medtech/NV-Raw2insights-MRI",
        contract=Contract(
            acceleration=(2, 24),
            calibration=(6, 6),
            requires_calibration=True,
            anatomy="heart, head and knee",
            contrast="cine, mapping, perfusion, late enhancement, T1- and T2-weighted",
        ),
    ),
    "recond_raw2insights.reconstructor:make",
)
