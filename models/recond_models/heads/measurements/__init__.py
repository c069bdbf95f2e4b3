"""What is measured in the label maps of heads: volumes, lesions and their diameters, in mL and mm. Free of torch."""

from recond_models.heads.contract import Code
from recond_models.heads.measurements.codes import MEASUREMENTS, Coded, structure_code
from recond_models.heads.measurements.diameters import Diameters, diameters
from recond_models.heads.measurements.errors import GridError, LabelMapError, MeasurementError, SpacingUnknownError
from recond_models.heads.measurements.grid import Grid
from recond_models.heads.measurements.lesions import Lesion, LesionTable, count_lesions, measure_lesions, number_lesions
from recond_models.heads.measurements.load import StructureLoad
from recond_models.heads.measurements.structures import Labels, StructureVolume, StructureVolumes, measure_structures
from recond_models.heads.measurements.uncertainty import Estimate, estimate

__all__ = [
    "MEASUREMENTS",
    "Code",
    "Coded",
    "Diameters",
    "Estimate",
    "Grid",
    "GridError",
    "LabelMapError",
    "Labels",
    "Lesion",
    "LesionTable",
    "MeasurementError",
    "SpacingUnknownError",
    "StructureLoad",
    "StructureVolume",
    "StructureVolumes",
    "count_lesions",
    "diameters",
    "estimate",
    "measure_lesions",
    "measure_structures",
    "number_lesions",
    "structure_code",
]
