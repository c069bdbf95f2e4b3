"""The head `lesion` on held-out heads: free-response curves, healthy heads, a patient with marked lesions, and its calibration.

    python bench/heads/lesion.py --run RUN --heads HEADS --volumes VOLUMES --collection DATA/train -o out/lesion [--calibrate]

RUN holds ``architecture.json`` and ``best.safetensors``; HEADS what `recond_models.training.heads.prepare_heads` wrote. With
``--calibrate`` the rules of the detection are fitted on synthetic volumes and healthy heads that are not in the figures, so that
there is half a false positive a volume of each contrast (``detection.json`` in the output).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from pictures import picture
from safetensors.torch import load_file
from scipy.optimize import minimize

from recond_models.heads.lesions import FEATURES, Detection, DetectionRules, detect
from recond_models.heads.network import SliceUNet
from recond_models.heads.segmenter import Segmenter
from recond_models.training.heads.bank import LesionHead
from recond_models.training.heads.froc import Matched, curve, match, sensitivity_at
from recond_models.training.heads.lesion_volumes import draw_lesion_volume
from recond_models.training.heads.looks import Weighting
from recond_models.training.volumes import SIGNAL_UNITS, SOURCES, VOXEL, Volume, is_saved

Spacing = tuple[float, float, float]
_SIZES = ((0.0, 0.1), (0.1, 0.5), (0.5, 2.0), (2.0, 10.0), (10.0, 1e3))
_SYNTHETIC: tuple[tuple[str, Weighting], ...] = (
    ("heads_training_seg_16", "t1post"), ("heads_training_seg_17", "flair"), ("heads_training_seg_16", "flair"),
    ("heads_training_seg_17", "t1post"), ("heads_training_seg_16", "flair"), ("heads_training_seg_17", "flair"),
    ("colin27", "t1post"), ("brainbrowser-1", "t1post"),
)  # fmt: skip
_STEPS = (1.2, 3.0, 5.0)
_LESIONS = (0, 1, 4)
_HEALTHY = ("colin27", "mni152-2009a", "brainbrowser-1", "lowfield_pair_6B_3T_T1w", "lowfield_pair_6B_3T_T2w",
            "lowfield_pair_6B_3T_FLAIR")  # fmt: skip
# Healthy on T1; for the calibration, so not in the figures.
_CALIBRATING = ("itk-t1", "ms_long_patient04_study1_T1W")
_ALLOWED = 0.5
_KINDS = (("t1post", "healthy"), ("flair",))
"""Which volumes settle how confident the first kind of lesion has to be, and which the second."""

Maps = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Probability of lesion in 1/255, and the kind."""

_EXTENTS = (0.15, 0.2, 0.3, 0.4, 0.5)
_SEED = 0.5
_HALF = 128
_PATIENTS = ("lowfield_pair_6A_3T_FLAIR", "lowfield_pair_6A_3T_T1w", "lowfield_pair_6A_3T_T2w", "lowfield_pair_7A_3T_FLAIR",
             "lowfield_pair_7A_3T_T2w", "ms_long_patient04_study1_FLAIR", "ms_long_patient04_study1_T2W")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A volume to look at.

    Parameters
    ----------
    name, group
        For the table.
    image
        float32 (slices, rows, columns).
    spacing
        Distance of slices, rows and columns, mm.
    truth
        Numbers of true lesions, of the shape of the image; None if nobody marked them.
    """

    name: str
    group: str
    image: NDArray[np.float32]
    spacing: Spacing
    truth: NDArray[np.integer] | None


class LesionNetwork:
    """The network of a run."""

    def __init__(self, run: Path) -> None:
        network = SliceUNet(**json.loads((run / "architecture.json").read_text()))
        network.load_state_dict(load_file(run / "best.safetensors"))
        self._segmenter = Segmenter(network)

    def __call__(self, image: NDArray[np.float32], spacing: Spacing) -> Maps:
        """Return the probability of lesion of either kind in 1/255, and the more probable kind where a lesion is probable."""
        none, *kinds = (np.asarray(each) for each in self._segmenter(image, spacing).probabilities)
        kind = (np.argmax(kinds, axis=0) + 1).astype(np.uint8)
        return 255 - none, np.where(none < _HALF, kind, 0).astype(np.uint8)


def synthetic(heads: Path, repeats: int, seed: int) -> Iterator[Case]:
    """Yield volumes of held-out heads with lesions put in, or without."""
    for number in range(repeats):
        for place, (name, weighting) in enumerate(_SYNTHETIC):
            generator = np.random.default_rng([seed, number, place])
            step = _STEPS[(number + place) % len(_STEPS)]
            lesions = _LESIONS[(number + 2 * place) % len(_LESIONS)]
            drawn = draw_lesion_volume(generator, LesionHead.load(heads, name), weighting, step, lesions)
            yield Case(f"{name} {weighting} {step:g} mm #{number}", weighting, drawn.image, drawn.spacing, drawn.truth)


def measured(volumes: Path, names: tuple[str, ...], group: str) -> Iterator[Case]:
    """Yield measured volumes without truth, axial."""
    for source in SOURCES:
        if source.name not in names or not is_saved(volumes, source):
            continue
        volume = Volume.load(volumes, source)
        raw = volume.voxels["signal"] if volume.voxels.dtype == VOXEL else volume.voxels
        image = np.asarray(raw, dtype=np.float32).transpose(2, 1, 0)[:, ::-1] / SIGNAL_UNITS
        yield Case(source.name, group, np.ascontiguousarray(image), volume.spacing[::-1], None)


def marked(collection: Path, patient: str) -> Iterator[Case]:
    """Yield the scans of a patient whose lesions three raters marked, as measured and as thick slices."""
    truth = _axial(collection / "labels" / f"ms_mni_{patient}_LESION.nii.gz") > 0
    for contrast in ("FLAIR", "T2", "T1POST"):
        image = _axial(collection / "images" / f"ms_mni_{patient}_{contrast}.nii.gz").astype(np.float32)
        yield Case(f"{patient} {contrast} 1 mm", contrast, image, (1.0, 1.0, 1.0), truth.astype(np.uint8))
        count = len(image) // 3 * 3
        thick = image[:count].reshape(-1, 3, *image.shape[1:]).mean(axis=1)
        share = truth[:count].reshape(-1, 3, *image.shape[1:]).mean(axis=1)
        yield Case(f"{patient} {contrast} 3 mm", contrast, thick, (3.0, 1.0, 1.0), (share >= 0.5).astype(np.uint8))


def _axial(path: Path) -> NDArray[np.generic]:
    image = nibabel.as_closest_canonical(nibabel.load(path))
    return np.ascontiguousarray(np.asarray(image.dataobj).transpose(2, 1, 0)[:, ::-1])  # type: ignore[attr-defined]


def fitted(found: list[tuple[Detection, Matched]], rules: DetectionRules) -> DetectionRules:
    """Fit the confidence by logistic regression with a small ridge, false detections and true ones counting alike.

    No coefficient but the intercept is below zero: a lesion that is larger, or more probable, is never less confident.
    """
    features, right = [], []
    for detection, matched in found:
        false = list(matched.false)
        for lesion in detection.lesions:
            features.append(lesion.features)
            wrong = lesion.confidence in false
            if wrong:
                false.remove(lesion.confidence)
            right.append(not wrong)
    points, truth = np.asarray(features), np.asarray(right, dtype=float)
    if not 0 < truth.sum() < len(truth):
        raise ValueError("the confidence is fitted on true and on false detections, and one kind is missing")

    def loss(coefficients: NDArray[np.float64]) -> float:
        scores = points @ coefficients
        return float(np.mean(np.logaddexp(0, scores) - truth * scores) + 1e-3 * (coefficients[1:] ** 2).sum())

    bounds = [(None, None), *[(0.0, None)] * (len(FEATURES) - 1)]
    best = minimize(loss, np.zeros(len(FEATURES)), method="L-BFGS-B", bounds=bounds).x
    return replace(rules, coefficients=tuple(float(value) for value in best))


def calibrated(network: LesionNetwork, cases: list[Case], rules: DetectionRules) -> DetectionRules:
    """Return rules with the extent of the best mean Dice, a fitted confidence, and `_ALLOWED` false positives a volume."""
    seen = [(case, network(case.image, case.spacing)) for case in cases]

    def overlap(extent: float) -> float:
        tried = evaluate(seen, replace(rules, extent=extent, seed=max(extent, _SEED), confidence=0.0))
        return float(
            np.mean(
                [
                    dice(case.truth > 0, found.labels > 0)
                    for case, found, _ in tried
                    if case.truth is not None and case.truth.any()
                ]
            )
        )

    overlaps = {extent: overlap(extent) for extent in _EXTENTS}
    print("mean Dice by extent:", {extent: round(value, 3) for extent, value in overlaps.items()}, file=sys.stderr)
    extent = max(overlaps, key=overlaps.__getitem__)
    every = replace(rules, extent=extent, seed=max(extent, _SEED), confidence=0.0)
    fit = fitted([(found, matched) for _, found, matched in evaluate(seen, every) if matched], every)
    evaluated = evaluate(seen, fit)
    thresholds = []
    for groups in _KINDS:
        matches = [matched for case, _, matched in evaluated if matched and case.group in groups]
        false = np.sort([confidence for each in matches for confidence in each.false])[::-1]
        allowed = int(_ALLOWED * len(matches))
        thresholds.append(min(float(false[allowed]) + 1e-4, 0.999) if len(false) > allowed else 0.0)
    return replace(fit, confidence=max(thresholds), confidences=tuple(thresholds))


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient."""
    return float(2 * (first & second).sum() / max(1, first.sum() + second.sum()))


def evaluate(cases: list[tuple[Case, Maps]], rules: DetectionRules) -> list[tuple[Case, Detection, Matched | None]]:
    """Detect lesions in every case and match them with the truth."""
    results = []
    for case, (probability, kinds) in cases:
        detection = detect(probability, case.spacing, rules, kinds)
        truth = np.zeros(case.image.shape, np.uint8) if case.truth is None else case.truth
        confidences = [lesion.confidence for lesion in detection.lesions]
        results.append(
            (case, detection, match(truth, detection.labels, confidences, float(np.prod(case.spacing)) / 1000))
        )
    return results


def synthetic_figures(results: list[tuple[Case, Detection, Matched | None]]) -> dict[str, object]:
    """Return sensitivities by size, false positives, Dice and errors of the volume."""
    figures: dict[str, object] = {}
    for group in ("t1post", "flair", "all"):
        chosen = [
            (case, found, matched) for case, found, matched in results if group in {"all", case.group} and matched
        ]
        matches = [matched for _, _, matched in chosen]
        sizes = {}
        for low, high in _SIZES:
            try:
                points = curve(matches, low, high)
            except ValueError:
                continue
            count = sum(low <= volume < high for each in matches for volume in each.volumes_ml)
            sizes[f"{low:g}-{high:g} ml"] = {
                "lesions": count, "sensitivity_all": points[-1].sensitivity if points else 0.0,
                **{f"sensitivity_{limit:g}fp": sensitivity_at(points, limit) for limit in (0.25, 0.5, 1, 2)},
            }  # fmt: skip
        errors = [
            abs(found - true) / true
            for each in matches
            for true, found, confidence in zip(each.volumes_ml, each.found_ml, each.found_with, strict=True)
            if true >= 1 and np.isfinite(confidence)
        ]
        overlaps = [
            dice(case.truth > 0, found.labels > 0)
            for case, found, _ in chosen
            if case.truth is not None and case.truth.any()
        ]
        figures[group] = {
            "volumes": len(chosen),
            "false_positives": float(np.mean([len(each.false) for each in matches])),
            "dice": float(np.median(overlaps)),
            "volume_error_from_1_ml": float(np.median(errors)) if errors else None,
            "sizes": sizes,
        }  # fmt: skip
    return figures


def main() -> None:
    """Print the figures, write them and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "heads", "volumes", "collection"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--rules", type=Path)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    network = LesionNetwork(arguments.run)
    rules = DetectionRules.from_json(json.loads(arguments.rules.read_text())) if arguments.rules else DetectionRules()
    if arguments.calibrate:
        rules = calibrated(
            network,
            [*synthetic(arguments.heads, arguments.repeats, 1), *measured(arguments.volumes, _CALIBRATING, "healthy")],
            rules,
        )
        (arguments.output / "detection.json").write_text(json.dumps(rules.to_json(), indent=2) + "\n")
    cases = [(case, network(case.image, case.spacing)) for case in synthetic(arguments.heads, arguments.repeats, 2)]
    report: dict[str, object] = {"rules": rules.to_json()}
    every = replace(rules, confidence=0.0, confidences=())
    report["synthetic"] = synthetic_figures(evaluate(cases, every))
    report["synthetic_with_rules"] = synthetic_figures(evaluate(cases, rules))
    groups = (
        (measured(arguments.volumes, _HEALTHY, "healthy"), "healthy"),
        (marked(arguments.collection, "patient26"), "marked"),
        (measured(arguments.volumes, _PATIENTS, "patient"), "patients"),
    )
    for cases_of, title in groups:
        rows = {}
        for case, found, matched in evaluate([(case, network(case.image, case.spacing)) for case in cases_of], rules):
            lesions = [
                {"ml": round(each.volume_mm3 / 1000, 3), "confidence": round(each.confidence, 3)}
                for each in found.lesions
            ]
            rows[case.name] = {"found": len(lesions), "lesions": lesions[:12]}
            if case.truth is not None and matched:
                rows[case.name] |= {
                    "dice": round(dice(case.truth > 0, found.labels > 0), 3),
                    "true_ml": round(float((case.truth > 0).sum() * np.prod(case.spacing) / 1000), 2),
                    "found_ml": round(float((found.labels > 0).sum() * np.prod(case.spacing) / 1000), 2),
                }
            picture(arguments.output / f"{case.name.replace(' ', '_')}.png", case.image, found.labels, case.truth)
        report[title] = rows
    for case, found, _ in evaluate(cases[:16], rules):
        picture(arguments.output / f"synthetic_{case.name.replace(' ', '_')}.png", case.image, found.labels, case.truth)
    (arguments.output / "lesion.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
