"""The head `series` on held-out volumes, other parts of the body and scans at 0.055 T, and its calibration.

    python bench/heads/series.py --run RUN --heads HEADS --volumes VOLUMES --data DATA -o out/series

RUN holds ``architecture.json`` and ``best.safetensors``; HEADS what `recond_models.training.heads.prepare_heads` wrote; DATA has
``test/images`` and ``test/kspace``. Temperatures are fitted on generated slices of held-out heads, and a threshold is the least at
which 98 of 100 answers about them are right; the figures of measured volumes are with both.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import h5py
import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.optimize import minimize_scalar

from recond_models.heads.series import UNKNOWN, SeriesCalibration, SeriesClassifier
from recond_models.heads.series_network import ARTEFACTS, OUTPUTS, SeriesNetwork
from recond_models.training.fields import to_images
from recond_models.training.heads.bank import load_heads
from recond_models.training.heads.samples import IGNORED
from recond_models.training.heads.series_samples import SeriesSamples
from recond_models.training.volumes import SOURCES, VOXEL, Volume, is_saved

_GENERATED = 1600
_WANTED = 0.98
_PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}
_INNER = (0.2, 0.85)
_SLICES = 24
_VOLUMES = {
    "T1": ("ms_long_patient04_study1_T1W", "ms_mni_patient26_T1", "colin27", "mni152-2009a", "itk-t1", "brainbrowser-1",
           "brainbrowser-2", "lowfield_pair_6A_3T_T1w", "lowfield_pair_6B_3T_T1w", "lowfield_pair_7A_3T_T1w"),
    "T1 post contrast": ("ms_mni_patient26_T1POST",),
    "T2": ("ms_long_patient04_study1_T2W", "ms_mni_patient26_T2", "niimath_T2", "lowfield_pair_6A_3T_T2w",
           "lowfield_pair_6B_3T_T2w", "lowfield_pair_7A_3T_T2w"),
    "FLAIR": ("ms_long_patient04_study1_FLAIR", "ms_mni_patient26_FLAIR", "lowfield_pair_6A_3T_FLAIR", "lowfield_pair_6B_3T_FLAIR",
              "lowfield_pair_7A_3T_FLAIR"),
}  # fmt: skip
_LOW_FIELD = {"GRE": "T1", "FSE": "T2", "FLAIR": "FLAIR"}

Slices = list[NDArray[np.floating]]


def measured(volumes: Path) -> Iterator[tuple[str, str, str, Slices]]:
    """Yield name, contrast, plane and slices, each turned and mirrored otherwise."""
    contrasts = {name: contrast for contrast, names in _VOLUMES.items() for name in names}
    for source in SOURCES:
        if source.name not in contrasts or not is_saved(volumes, source):
            continue
        volume = Volume.load(volumes, source)
        raw = volume.voxels["signal"] if volume.voxels.dtype == VOXEL else volume.voxels
        signal = np.asarray(raw, dtype=np.float32)
        for plane, axis in _PLANES.items():
            # Thick slices, and too coarse voxels, are looked at as they were measured.
            if plane != "axial" and (source.layout == "slices" or max(volume.spacing) > 2.5):
                continue
            slices = np.moveaxis(signal, axis, 0)
            first, last = (round(share * (len(slices) - 1)) for share in _INNER)
            numbers = (
                np.unique(np.linspace(first, last, _SLICES).astype(int)) if len(slices) > 8 else range(len(slices))
            )
            turned = [np.ascontiguousarray(_turned(slices[number], number)) for number in numbers]
            yield source.name, contrasts[source.name], plane, turned


def _turned(image: NDArray[np.floating], number: int) -> NDArray[np.floating]:
    turned = np.rot90(image, number % 4)
    return turned[::-1] if number // 4 % 2 else turned


def others(data: Path) -> Iterator[tuple[str, Slices]]:
    """Yield slices of spines, a knee and a hip."""
    for path in sorted((data / "test" / "images").glob("*.nii.gz")):
        image = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj, dtype=np.float32)  # type: ignore[attr-defined]
        axis = int(np.argmin(image.shape)) if min(image.shape) < 32 else 0
        slices = np.moveaxis(image, axis, 0)
        count = len(slices)
        yield path.name.removesuffix(".nii.gz"), list(slices[count // 4 : -(count // 4) or None])


def low_field(data: Path) -> Iterator[tuple[str, str, Slices]]:
    """Yield axial head slices measured at 0.055 T."""
    for path in sorted((data / "test" / "kspace").glob("lowfield_*A_*.h5")):
        contrast = _LOW_FIELD[path.stem.rpartition("_")[2]]
        with h5py.File(path) as file:
            yield path.stem, contrast, list(np.abs(to_images(np.asarray(file["kspace"])[:, 0].astype(np.complex64))))


def calibrate(network: SeriesNetwork, samples: SeriesSamples) -> tuple[SeriesCalibration, dict[str, dict[str, float]]]:
    """Return temperatures and thresholds, and the accuracy on the same generated slices."""
    drawn = [samples.draw(np.random.default_rng([77, number])) for number in range(_GENERATED)]
    classes = np.stack([sample.classes for sample in drawn])
    parts: dict[str, list[torch.Tensor]] = defaultdict(list)
    with torch.inference_mode():
        for start in range(0, len(drawn), 64):
            images = torch.from_numpy(np.stack([sample.image for sample in drawn[start : start + 64]]))[:, None]
            for name, scores in network(images).items():
                parts[name].append(scores)
    temperatures, thresholds, figures = {}, {}, {}
    for place, name in enumerate(OUTPUTS):
        known = classes[:, place] != IGNORED
        scores = torch.cat(parts[name])[torch.from_numpy(known)]
        truth = torch.from_numpy(classes[known, place].astype(np.int64))

        def loss(log_temperature: float, scores: torch.Tensor = scores, truth: torch.Tensor = truth) -> float:
            return float(torch.nn.functional.cross_entropy(scores / float(np.exp(log_temperature)), truth))

        temperatures[name] = float(np.exp(minimize_scalar(loss, bounds=(-1.5, 1.5), method="bounded").x))
        probable, label = torch.softmax(scores / temperatures[name], dim=1).max(dim=1)
        right = (label == truth).numpy()
        order = np.argsort(-probable.numpy())
        # The least threshold above which enough answers are right.
        correct = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
        enough = np.flatnonzero(correct >= _WANTED)
        cut = float(probable.numpy()[order][enough[-1]]) if enough.size else 0.99
        thresholds[name] = float(np.clip(cut, 1.2 / len(OUTPUTS[name]), 0.95))
        answered = probable.numpy() >= thresholds[name]
        figures[name] = {
            "slices": len(right), "accuracy": float(right.mean()), "answered": float(answered.mean()),
            "right_of_answered": float(right[answered].mean()) if answered.any() else float("nan"),
        }  # fmt: skip
    return SeriesCalibration(temperatures, thresholds), figures


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "heads", "volumes", "data"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    network = SeriesNetwork(**json.loads((arguments.run / "architecture.json").read_text()))
    network.load_state_dict(load_file(arguments.run / "best.safetensors"))
    network.eval()
    samples = SeriesSamples(load_heads(arguments.heads, held_out=True, unmarked=True))
    calibration, generated = calibrate(network, samples)
    (arguments.output / "calibration.json").write_text(json.dumps(calibration.to_json(), indent=2) + "\n")
    classifier = SeriesClassifier(network, calibration)
    report: dict[str, object] = {"generated_held_out": generated}
    rows, counts = {}, defaultdict(list)
    for name, contrast, plane, slices in measured(arguments.volumes):
        each, answers = classifier.probabilities(slices), classifier(slices)
        truth = {"anatomy": "head", "contrast": contrast, "plane": plane}
        rows[f"{name} {plane}"] = {
            key: f"{answers[key].label} {answers[key].probability:.2f}" for key in ("anatomy", "contrast", "plane")
        } | {"artefacts": {key: answers[key].label for key in ARTEFACTS if answers[key].label != "none"}}
        for key, wanted in truth.items():
            labels = np.asarray(OUTPUTS[key])[each[key].argmax(axis=1)]
            counts[f"{key}, slices"] += (labels == wanted).tolist()
            best = max(answers[key].probabilities, key=answers[key].probabilities.__getitem__)
            counts[f"{key}, series"].append(best == wanted)
            counts[f"{key}, series answered"] += [answers[key].label == wanted] if answers[key].label != UNKNOWN else []
    report["measured"] = {
        key: {"accuracy": float(np.mean(values)), "count": len(values)} for key, values in counts.items()
    }
    report["measured_volumes"] = rows
    report["others"] = {
        name: {"series": classifier(slices)["anatomy"].label,
               "slices": {kind: int((classifier.probabilities(slices)["anatomy"].argmax(axis=1) == number).sum())
                          for number, kind in enumerate(OUTPUTS["anatomy"])},
               "contrast": classifier(slices)["contrast"].label}
        for name, slices in others(arguments.data)
    }  # fmt: skip
    report["low_field"] = {
        name: {key: f"{answer.label} {answer.probability:.2f}" for key, answer in classifier(slices).items()}
        | {"truth": contrast}
        for name, contrast, slices in low_field(arguments.data)
    }
    (arguments.output / "series.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
