"""Heads end to end: scans with known tissues and lesions, undersampled, reconstructed and labelled by a service.

    python bench/heads/acceleration.py --volumes VOLUMES --heads HEADS -o out/heads/acceleration

Every scan is written as raw data of eight coils with noise and sent to a service, which undersamples it, reconstructs it with each
model, and runs `tissue` or `lesion` on the images. Results are kept in ``results.json`` and not made again; ``table.md`` and
``acceleration.png`` are made of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from references import painted

import recond_client
from recond_client.embedded import EmbeddedService
from recond_models.simulate.scan import ScanSettings, SimulatedScan
from recond_models.simulate.write_ismrmrd import write
from recond_models.training import arrays, details
from recond_models.training.fields import to_kspace, upsample
from recond_models.training.heads.bank import load_heads
from recond_models.training.heads.lesion_volumes import draw_lesion_volume

SIDE, COILS, NOISE = 224, 8, 0.005
STEP = 4.0
ACCELERATIONS = (1, 2, 4, 6, 8, 10)
MODELS = ("rss", "cg-sense", "tv", "l1-wavelet", "unrolled-brain", "ensemble")
TISSUES = {
    "grey matter": ("grey matter",),
    "white matter": ("white matter",),
    "deep grey nuclei": ("deep grey nuclei",),
}
_COARSE = 18
_LEAST_ML = 0.1
_CONTRASTS = ("t1post", "flair")


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan and what is true of it.

    Parameters
    ----------
    name, head
        For the table, and the head that is to run.
    image
        float32 (slices, rows, columns) of 1 mm, `STEP` apart, largest value about 1.
    truth
        Masks of tissues by name; or under ``"lesion"`` the numbers of lesions.
    """

    name: str
    head: str
    image: NDArray[np.float32]
    truth: dict[str, NDArray[np.integer]]


def scans(volumes: Path, heads: Path, slices: int, subjects: int) -> Iterator[Scan]:
    """Yield scans of held-out subjects."""
    for reference in islice(
        (each for each in painted(volumes, ("t1",)) if ", axial " in each.name and each.spacing[0] < STEP), subjects
    ):
        numbers = _middle(reference.masks["grey matter"][0], slices, STEP / reference.spacing[0])
        masks = {
            name: _squared(mask[numbers].astype(np.uint8))
            for name, (mask, _) in reference.masks.items()
            if name in TISSUES
        }
        image = _squared(reference.volume[numbers])
        yield Scan(reference.name, "tissue", image / image.max(), masks)
    for number, weighting in enumerate(_CONTRASTS):
        head = next(head for head in load_heads(heads, held_out=True) if not head.thick)
        generator = np.random.default_rng([7, number])
        drawn = draw_lesion_volume(generator, head, weighting, STEP, 4, (SIDE, SIDE))
        numbers = _middle(drawn.truth > 0, slices, 1.0)
        image = drawn.image[numbers]
        yield Scan(f"{head.name} {weighting}", "lesion", image / image.max(), {"lesion": drawn.truth[numbers]})


def raw_data(scan: Scan, path: Path) -> None:
    """Write a scan as raw data: coils, a smooth phase, noise."""
    count = len(scan.image)
    settings = ScanSettings(
        coils=COILS, slices=count, rows=SIDE, columns=SIDE, acceleration=1, noise=NOISE, oversampling=1,
        field_of_view=float(SIDE), calibration_lines=24,
    )  # fmt: skip
    generator = np.random.default_rng(3)
    axes = np.linspace(-SIDE / 2, SIDE / 2, _COARSE)
    z = (np.arange(count) - count / 2) * STEP
    coils = []
    for place, image in enumerate(scan.image):
        grid = np.stack(np.broadcast_arrays(axes[None, :], axes[:, None], np.full((_COARSE, _COARSE), z[place])))
        # One array of coils for all slices.
        fields = arrays.receive_fields(np.random.default_rng(11), COILS, grid.astype(np.float32))
        coils.append(image * details.phase(generator, image) * upsample(fields, (SIDE, SIDE)))
    images = np.stack(coils).astype(np.complex64)
    truth = np.sqrt((np.abs(images) ** 2).sum(axis=1)).astype(np.float32)
    level = NOISE * float(truth.max())
    kspace = to_kspace(images)

    def noise(shape: tuple[int, ...]) -> NDArray[np.complex64]:
        return (level * (generator.standard_normal(shape) + 1j * generator.standard_normal(shape))).astype(np.complex64)

    lines = np.ones(SIDE, np.bool_)
    calibration = np.zeros(SIDE, np.bool_)
    calibration[SIDE // 2 - 12 : SIDE // 2 + 12] = True
    positions = np.stack([np.zeros(count), np.zeros(count), z], axis=1)
    made = SimulatedScan(
        settings, (kspace + noise(kspace.shape)).astype(np.complex64), lines, np.ones(count, np.bool_), calibration, truth,
        truth / (np.sqrt(2) * level), noise((COILS, 4 * SIDE)), 2 * level**2 * np.eye(COILS, dtype=np.complex128), positions,
        (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), STEP,
    )  # fmt: skip
    write(made, path)


def scores(result: recond_client.HeadResult, scan: Scan) -> dict[str, float]:
    """Return figures of what a head has found; nothing where the guard took the image for something else."""
    if result.refusal in {"WRONG_ANATOMY", "WRONG_CONTRAST"}:
        return {}
    if result.label_map is None:
        raise RuntimeError(f"{scan.name}: {result.problem}")
    if scan.head == "tissue":
        masks = {name: np.isin(result.label_map, [result.labels[each] for each in of]) for name, of in TISSUES.items()}
        found = {f"Dice {name}": _dice(masks[name], scan.truth[name] > 0) for name in TISSUES}
        errors = [abs(float(masks[name].sum()) / float((scan.truth[name] > 0).sum()) - 1) for name in TISSUES]
        return {**found, "volume error %": 100 * float(np.mean(errors))}
    truth, labels = scan.truth["lesion"], result.label_map
    sizes = {number: float((truth == number).sum()) * STEP / 1000 for number in np.unique(truth) if number}
    counted = [number for number, size in sizes.items() if size >= _LEAST_ML]
    hit = [number for number in counted if ((labels > 0) & (truth == number)).any()]
    wrong = [label for label in np.unique(labels) if label and not truth[labels == label].any()]
    total = float((truth > 0).sum())
    return {
        "Dice lesion": _dice(labels > 0, truth > 0),
        "sensitivity": len(hit) / len(counted),
        "false positives": float(len(wrong)),
        "volume error %": 100 * abs(float((labels > 0).sum()) / total - 1),
    }


def run(arguments: argparse.Namespace) -> None:
    """Fill in what is missing of the results."""
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    stored = out / "results.json"
    results: dict[str, dict[str, float]] = json.loads(stored.read_text()) if stored.exists() else {}
    with EmbeddedService() as service, recond_client.Client(service.target) as client:
        for scan in scans(arguments.volumes, arguments.heads, arguments.slices, arguments.subjects):
            if arguments.only not in {"", scan.head}:
                continue
            path = out / "scan.h5"
            raw_data(scan, path)
            for acceleration in ACCELERATIONS:
                for model in MODELS if acceleration > 1 else ("rss",):
                    key = f"{scan.head}|{scan.name}|{model}|{acceleration}"
                    if key in results:
                        continue
                    undersample = None if acceleration == 1 else f"equispaced-fraction:{acceleration}"
                    reconstructed = client.reconstruct(
                        path, model=model, undersample=undersample, heads=[scan.head], images=False
                    )
                    results[key] = scores(reconstructed.heads[scan.head], scan)
                    stored.write_text(json.dumps(results, indent=1) + "\n")
                    print(key, {name: round(value, 3) for name, value in results[key].items()}, flush=True)
            path.unlink()
    report(results, out)


def report(results: dict[str, dict[str, float]], out: Path) -> None:
    """Write the table and the plot."""
    figures = {"tissue": ("Dice grey matter", "Dice white matter", "Dice deep grey nuclei", "volume error %"),
               "lesion": ("Dice lesion", "sensitivity", "false positives", "volume error %")}  # fmt: skip
    figures = {head: names for head, names in figures.items() if any(key.startswith(f"{head}|") for key in results)}
    lines = []
    figure = Figure(figsize=(13, 3.25 * len(figures)), layout="constrained")
    axes = figure.subplots(len(figures), 4, squeeze=False)
    for row, (head, names) in enumerate(figures.items()):
        for column, name in enumerate(names):
            lines += [
                f"\n`{head}`: {name}\n",
                "| model | " + " | ".join("full" if r == 1 else f"{r}x" for r in ACCELERATIONS) + " |",
            ]
            lines.append("|---|" + "---:|" * len(ACCELERATIONS))
            for model in MODELS:
                means = [_mean(results, head, "rss" if r == 1 else model, r, name) for r in ACCELERATIONS]
                lines.append(
                    f"| {model} | " + " | ".join("" if np.isnan(value) else f"{value:.3g}" for value in means) + " |"
                )
                axes[row, column].plot(ACCELERATIONS, means, marker="o", markersize=3, label=model)
            axes[row, column].set_title(f"{head}: {name}", fontsize=9)
            axes[row, column].set_xlabel("acceleration", fontsize=8)
    axes[0, 0].legend(fontsize=7)
    figure.savefig(out / "acceleration.png", dpi=90)
    (out / "table.md").write_text("\n".join(lines).strip() + "\n")


def _mean(results: dict[str, dict[str, float]], head: str, model: str, acceleration: int, name: str) -> float:
    found = [
        figures[name]
        for key, figures in results.items()
        if (key.split("|")[0], *key.split("|")[2:]) == (head, model, str(acceleration)) and name in figures
    ]
    return float(np.mean(found)) if found else float("nan")


def _dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else float("nan")


def _middle(mask: NDArray[np.bool_], slices: int, step: float) -> NDArray[np.int64]:
    """Return the numbers of slices around the middle of what is in a mask (slices, rows, columns), `step` apart."""
    found = np.flatnonzero(mask.any(axis=(1, 2)))
    centre = (found[0] + found[-1]) / 2
    wanted = np.round((np.arange(slices) - (slices - 1) / 2) * step + centre).astype(np.int64)
    return wanted[(wanted >= 0) & (wanted < len(mask))]


def _squared(values: NDArray) -> NDArray:
    """Cut or pad the rows and columns of (slices, rows, columns) to `SIDE`."""
    made = np.zeros((len(values), SIDE, SIDE), values.dtype)
    rows, columns = (min(side, SIDE) for side in values.shape[1:])
    top, left = ((side - kept) // 2 for side, kept in zip(values.shape[1:], (rows, columns), strict=True))
    down, right = (SIDE - rows) // 2, (SIDE - columns) // 2
    made[:, down : down + rows, right : right + columns] = values[:, top : top + rows, left : left + columns]
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=Path, default=Path("out/volumes"))
    parser.add_argument("--heads", type=Path, default=Path("out/heads/prepared"))
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument("--subjects", type=int, default=3, help="whose tissues are labelled")
    parser.add_argument("--only", choices=("tissue", "lesion"), default="", help="this head alone")
    parser.add_argument("-o", "--out", type=Path, default=Path("out/heads/acceleration"))
    run(parser.parse_args())
