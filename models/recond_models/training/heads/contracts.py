"""What the heads that are trained here take and return."""

from __future__ import annotations

from typing import Final

from recond_models.heads.contract import HeadClass, HeadContract, HeadGroup
from recond_models.heads.framing import LARGEST_PIXEL_MM, LARGEST_STEP_MM, LEAST_SLICES
from recond_models.heads.lesions import DetectionRules
from recond_models.heads.measurements import structure_code
from recond_models.heads.network import SLICES
from recond_models.heads.series_network import OUTPUTS
from recond_models.training.heads import label_maps, lesion_samples

_COARSEST: Final = (LARGEST_PIXEL_MM, LARGEST_STEP_MM)
_CODES: Final = {"enhancing lesion": "lesion", "bright lesion": "white matter hyperintensity"}
"""Structures whose codes classes have that are named otherwise."""


def _classes(names: tuple[str, ...]) -> tuple[HeadClass, ...]:
    return tuple(HeadClass(name, structure_code(_CODES.get(name, name))) for name in names)


TISSUE: Final = HeadContract(
    task="segmentation",
    groups=(HeadGroup("structure", _classes(label_maps.OUTPUT)),),
    slices=SLICES,
    fewest_slices=LEAST_SLICES,
    coarsest_mm=_COARSEST,
    anatomy="head",
)

LESION: Final = HeadContract(
    task="lesions",
    groups=(HeadGroup("lesion", _classes(lesion_samples.CLASSES)),),
    slices=SLICES,
    fewest_slices=LEAST_SLICES,
    coarsest_mm=_COARSEST,
    anatomy="head",
    contrasts=("T1 post contrast", "FLAIR"),  # what it learned of T2 is not good enough: docs/heads-lesion.md
    detection=DetectionRules().to_json(),
)

SERIES: Final = HeadContract(
    task="classification",
    groups=tuple(HeadGroup(name, tuple(map(HeadClass, classes)), 0.6) for name, classes in OUTPUTS.items()),
)

MERGED: Final = {"tissue": label_maps.MERGED}
"""Of heads whose network tells more classes apart than come out: for each class of the network the one that comes out."""

CONTRACTS: Final = {"tissue": TISSUE, "lesion": LESION, "series": SERIES}
"""By what a configuration calls the head."""
