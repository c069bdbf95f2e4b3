"""The head `series` on held-out volumes, other parts of the body and scans at 0.055 T, and its calibration.

    python bench/heads/series.py --run RUN --heads HEADS --volumes VOLUMES --data DATA -o out/series

RUN holds ``architecture.json`` and ``best.safetensors``; HEADS what `recond_models.training.heads.prepare_heads` wrote; DATA has
``test/images`` and ``test/kspace``. What features heads have is learned from generated slices without severe artefacts, and from
those of held-out heads how strange a head may look; temperatures are fitted on generated slices of held-out heads; a threshold is
the least at which 98 of 100 answers about these are right, but 0.6 for the anatomy and 0.5 for the contrast, which many slices
decide together. Measured volumes are looked at with all that.
``calibration.json`` and ``best.safetensors`` in the output belong together: copy both into the folder of the run to publish it.
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
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize_scalar

from recond_models.heads.series import UNKNOWN, SeriesCalibration, SeriesClassifier
from recond_models.heads.series_network import ARTEFACTS, OUTPUTS, SeriesNetwork
from recond_models.training.fields import to_images
from recond_models.training.heads.bank import load_heads
from recond_models.training.heads.samples import IGNORED
from recond_models.training.heads.series_samples import SeriesSamples
from recond_models.training.volumes import SOURCES, VOXEL, Volume, is_saved

_GENERATED = 1600
_LEARNED, _STRANGE = 4000, 800
_SERIES, _OF_SERIES = 240, 8
_WANTED = 0.98
_LEAST = {"anatomy": 0.6, "contrast": 0.5}
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

_ANATOMY = list(OUTPUTS).index("anatomy")
_GRADED = list(OUTPUTS).index(ARTEFACTS[0])
_SEVERE = 2

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


def learn_heads(network: SeriesNetwork, trained: SeriesSamples, held_out: SeriesSamples) -> None:
    """Let a network learn what features heads have."""
    pooled = []
    for seed, samples, wanted in ((78, trained, _LEARNED), (79, held_out, _STRANGE)):
        images = list[NDArray[np.float32]]()
        number = 0
        while len(images) < wanted:
            sample = samples.draw(np.random.default_rng([seed, number]))
            number += 1
            if sample.classes[_ANATOMY] == 0 and (sample.classes[_GRADED:] < _SEVERE).all():
                images.append(sample.image)
        with torch.inference_mode():
            pooled.append(
                torch.cat([network.pooled(part[:, None]) for part in torch.tensor(np.stack(images)).split(64)])
            )
    network.learn_heads(*pooled)


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
        if name == "anatomy":  # of a slice that is ruined nobody asks what it shows
            known &= ~(classes[:, _GRADED:] == _SEVERE).any(axis=1)
        scores = torch.cat(parts[name])[torch.from_numpy(known)]
        truth = torch.from_numpy(classes[known, place].astype(np.int64))

        def loss(log_temperature: float, scores: torch.Tensor = scores, truth: torch.Tensor = truth) -> float:
            return float(torch.nn.functional.cross_entropy(scores / float(np.exp(log_temperature)), truth))

        temperatures[name] = float(np.exp(minimize_scalar(loss, bounds=(-1.5, 1.5), method="bounded").x))
        probable, label = torch.softmax(scores / temperatures[name], dim=1).max(dim=1)
        right = (label == truth).numpy()
        thresholds[name] = _LEAST.get(name) or _threshold(probable.numpy(), right, len(OUTPUTS[name]))
        answered = probable.numpy() >= thresholds[name]
        figures[name] = {
            "slices": len(right), "accuracy": float(right.mean()), "answered": float(answered.mean()),
            "right_of_answered": float(right[answered].mean()) if answered.any() else float("nan"),
        }  # fmt: skip
    figures["contrast, series"] = _series_figures(network, samples, temperatures)
    return SeriesCalibration(temperatures, thresholds), figures


def _series_figures(network: SeriesNetwork, samples: SeriesSamples, temperatures: dict[str, float]) -> dict[str, float]:
    """Return how often the contrast of generated series is told right."""
    classifier = SeriesClassifier(network, SeriesCalibration(temperatures, {"contrast": 1e-6}))
    probable, right, readable = [], [], 0
    for number in range(_SERIES):
        images, contrast, _ = samples.draw_series(np.random.default_rng([80, number]), _OF_SERIES)
        answer = classifier(list(images))["contrast"]
        if answer.label == UNKNOWN:
            continue
        readable += 1
        probable.append(answer.probability)
        right.append(answer.label == OUTPUTS["contrast"][contrast])
    answered = np.array(probable) >= _LEAST["contrast"]
    return {
        "series": _SERIES, "readable": readable, "accuracy": float(np.mean(right)), "answered": float(answered.mean()),
        "right_of_answered": float(np.array(right)[answered].mean()) if answered.any() else float("nan"),
    }  # fmt: skip


def _threshold(probable: NDArray[np.floating], right: NDArray[np.bool_], classes: int) -> float:
    """Return the least probability above which enough answers are right."""
    order = np.argsort(-probable)
    correct = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(correct >= _WANTED)
    cut = float(probable[order][enough[-1]]) if enough.size else 0.99
    return float(np.clip(cut, 1.2 / classes, 0.95))


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
    trained, samples = (
        SeriesSamples(load_heads(arguments.heads, held_out=held_out, unmarked=True)) for held_out in (False, True)
    )
    learn_heads(network, trained, samples)
    save_file(network.state_dict(), arguments.output / "best.safetensors")
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
            if key == "contrast":
                rows[f"{name} {plane}"]["contrast"] += "" if best == wanted else f", WRONG: {best}"
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
