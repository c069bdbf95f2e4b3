"""Coded terms of structures and measurements, for reports and segmentations in DICOM.

Sources: DICOM PS3.16 (2024), CID 7140 "Brain Structure for Volumetric Measurement", CID 7153 "CNS Segmentation Type", CID 7159
"Lesion Segmentation Type", CID 7199 "Anatomically Localized Lesion Segmentation Type", CID 7470 "Linear Measurement", CID 7472
"Volume Measurement"; UCUM for units. Terms of SNOMED CT (SCT) are those that DICOM may use freely.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recond_models.heads.contract import Code


@dataclass(frozen=True, slots=True)
class Coded:
    """What a field of the results means.

    Parameters
    ----------
    concept
        What is measured.
    unit
        Its unit in UCUM.
    """

    concept: Code
    unit: Code


MILLILITRE: Final = Code("mL", "UCUM", "milliliter")
MILLIMETRE: Final = Code("mm", "UCUM", "millimeter")

MEASUREMENTS: Final = {
    "volume_ml": Coded(Code("118565006", "SCT", "Volume"), MILLILITRE),
    "diameter_mm": Coded(Code("81827009", "SCT", "Diameter"), MILLIMETRE),
    "in_plane_diameter_mm": Coded(Code("103339001", "SCT", "Long Axis"), MILLIMETRE),
    "perpendicular_diameter_mm": Coded(Code("131189007", "SCT", "Perpendicular Axis"), MILLIMETRE),
}
"""Meaning of the measured fields of a lesion and of a structure, by name."""

_STRUCTURES: Final = {
    "brain": Code("12738006", "SCT", "Brain"),
    "grey matter": Code("389081007", "SCT", "Gray Matter"),
    "white matter": Code("389080008", "SCT", "White Matter"),
    "cerebral grey matter": Code("40146001", "SCT", "Cerebral Gray Matter"),
    "cerebral white matter": Code("68523003", "SCT", "Cerebral White Matter"),
    "cerebrospinal fluid": Code("65216001", "SCT", "Cerebrospinal Fluid"),
    "deep grey nuclei": Code("223151", "FMA", "Subcortical gray matter"),
    "thalamus": Code("42695009", "SCT", "Thalamus"),
    "caudate nucleus": Code("11000004", "SCT", "Caudate nucleus"),
    "putamen": Code("89278009", "SCT", "Putamen"),
    "globus pallidus": Code("14738005", "SCT", "Globus pallidus"),
    "hippocampus": Code("5366008", "SCT", "Hippocampus"),
    "amygdala": Code("4958002", "SCT", "Amygdala"),
    "cerebellum": Code("113305005", "SCT", "Cerebellum"),
    "brain stem": Code("119238007", "SCT", "Brain stem"),
    "lateral ventricle": Code("66720007", "SCT", "Lateral ventricle"),
    "third ventricle": Code("49841001", "SCT", "Third ventricle"),
    "fourth ventricle": Code("35918002", "SCT", "Fourth ventricle"),
    "lesion": Code("301766008", "SCT", "Lesion of Brain"),
    "oedema": Code("79654002", "SCT", "Edema"),
    "necrosis": Code("6574001", "SCT", "Necrosis"),
    "white matter hyperintensity": Code("110702", "DCM", "White Matter T2 Hyperintensity"),
}
_ALIASES: Final = {"csf": "cerebrospinal fluid", "brainstem": "brain stem", "edema": "oedema"}


def structure_code(name: str) -> Code | None:
    """Return the coded term of a structure.

    Parameters
    ----------
    name
        As a head names its class: ``"grey matter"``, ``"CSF"``; British or American, any case, with spaces, hyphens or
        underscores.

    Returns
    -------
    Code or None
        None if the structure has no code here.
    """
    plain = " ".join(name.lower().replace("_", " ").replace("-", " ").split()).replace("gray", "grey")
    return _STRUCTURES.get(_ALIASES.get(plain, plain))
