"""What measured and simulated scans, and samples held out of a scan, say about which model suits it. Free of torch."""

from recond_models.evidence.calibration import Calibration, Cell, GuardLimit, calibration
from recond_models.evidence.candidates import CANDIDATES, ENSEMBLE, NETWORK, partner_of
from recond_models.evidence.decision import Decision, decide
from recond_models.evidence.trial import HeldOut, pool

__all__ = [
    "CANDIDATES",
    "ENSEMBLE",
    "NETWORK",
    "Calibration",
    "Cell",
    "Decision",
    "GuardLimit",
    "HeldOut",
    "calibration",
    "decide",
    "partner_of",
    "pool",
]
