"""Follow-up of a patient: two scans compared, many in a timeline, with clinical rows, a picture and a plot. Free of torch."""

from recond_models.follow_up.change import DAYS_OF_A_MONTH, Change, Noise, Trend
from recond_models.follow_up.clinical import ClinicalRow, ClinicalTable, read_clinical
from recond_models.follow_up.comparison import STRUCTURE_NOISE, Comparison, StructureChange, compare
from recond_models.follow_up.errors import (
    ClinicalRowsError,
    FollowUpError,
    RegistrationFailedError,
    RegistrationUnavailableError,
    VisitError,
    VisitOrderError,
)
from recond_models.follow_up.lesion_changes import LESION_NOISE, LesionChange, LesionComparison, Status
from recond_models.follow_up.matching import Group, match
from recond_models.follow_up.picture import picture
from recond_models.follow_up.plot import plot
from recond_models.follow_up.quality import Quality
from recond_models.follow_up.registration import Registration, register
from recond_models.follow_up.therapies import Therapy
from recond_models.follow_up.timeline import Timeline, timeline
from recond_models.follow_up.tracks import Track, TrackPoint
from recond_models.follow_up.visit import HeadResult, Visit

__all__ = [
    "DAYS_OF_A_MONTH",
    "LESION_NOISE",
    "STRUCTURE_NOISE",
    "Change",
    "ClinicalRow",
    "ClinicalRowsError",
    "ClinicalTable",
    "Comparison",
    "FollowUpError",
    "Group",
    "HeadResult",
    "LesionChange",
    "LesionComparison",
    "Noise",
    "Quality",
    "Registration",
    "RegistrationFailedError",
    "RegistrationUnavailableError",
    "Status",
    "StructureChange",
    "Therapy",
    "Timeline",
    "Track",
    "TrackPoint",
    "Trend",
    "Visit",
    "VisitError",
    "VisitOrderError",
    "compare",
    "match",
    "picture",
    "plot",
    "read_clinical",
    "register",
    "timeline",
]
