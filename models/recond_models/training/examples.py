"""Simulated samples made ready for the network, in worker processes, in an order that a seed decides."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recond_kernels import coils
from recond_kernels.layout import CoilLayout
from recond_kernels.operators.sense import SenseEncoding
from recond_models import registry
from recond_models.batch import PackedBatch
from recond_models.classical import parallel
from recond_models.classical.scale import bright_pixels
from recond_models.model import MINIMUM_CALIBRATION
from recond_models.networks.unrolled import UnrolledArchitecture
from recond_models.networks.unrolled_reconstructor import noise_estimate
from recond_models.training.config import TrainingConfig
from recond_models.training.simulator import SimulationSettings, Simulator, TrainingSample
from recond_models.training.volumes import Split, load_volumes

_MULTIPLE = 2
_TRIES = 20
_ASKING = registry.find(
    "cg-sense"
)  # who asks for sensitivities; named only in errors, which `_usable` leaves no cause for


@dataclass(frozen=True, slots=True)
class Example:
    """A batch to train on.

    Parameters
    ----------
    sensitivities
        complex64 (coils of all frames, rows, columns), estimated from the calibration as in use.
    counts
        Coils of each frame.
    masks
        Bool (batch, rows, columns).
    data
        complex64 (batch, rows, columns): ``A^H y``.
    noise
        float32 (batch,): estimated as in use.
    fractions
        float32 (batch,): measured part of k-space.
    images
        complex64 (batch, rows, columns): the true coil images combined with `sensitivities`.
    magnitudes
        float32 (batch, rows, columns): root sum of squares of the true coil images.
    descriptions
        Of the samples.
    """

    sensitivities: Tensor
    counts: tuple[int, ...]
    masks: Tensor
    data: Tensor
    noise: Tensor
    fractions: Tensor
    images: Tensor
    magnitudes: Tensor
    descriptions: tuple[str, ...]

    def encoding(self, device: torch.device) -> SenseEncoding:
        """Return A."""
        return SenseEncoding(self.sensitivities.to(device), self.masks.to(device), CoilLayout(self.counts))


class SimulatedExamples(Dataset[Example]):
    """The examples of a training run, one for each step.

    Parameters
    ----------
    folder
        Where the volumes are. They are opened in the process that simulates.
    split
        Which of them.
    config
        Sizes and seed.
    offset
        Added to the seed: another set of examples.
    """

    def __init__(self, folder: Path, split: Split, config: TrainingConfig, offset: int = 0) -> None:
        self._folder, self._split = folder, split
        self._config = config
        self._offset = offset
        self._simulator: Simulator | None = None

    def __len__(self) -> int:
        return self._config.steps

    def __getitem__(self, step: int) -> Example:
        """Return the example of a step; the same whenever it is asked for."""
        if self._simulator is None:
            volumes = load_volumes(self._folder, self._split)
            settings = SimulationSettings(max_coils=self._config.coils, shapes=self._config.shapes)
            self._simulator = Simulator(volumes, settings)
        numbers = np.random.default_rng([self._config.seed, self._offset, step])
        shape = self._shape(numbers)
        samples = [self._usable(self._simulator, numbers, shape) for _ in range(self._config.batch)]
        return example_of(samples, self._config.architecture)

    def _shape(self, numbers: np.random.Generator) -> tuple[int, int]:
        config = self._config
        logarithmic = numbers.random() < config.small
        while True:
            if logarithmic:
                low, high = np.log(config.smallest), np.log(config.largest + 0.999)
                sides = np.exp(numbers.uniform(low, high, 2))
            else:
                sides = numbers.integers(config.smallest, config.largest + 1, 2)
            rows, columns = (int(size) for size in sides)
            if rows * columns <= config.largest_area:
                return rows // _MULTIPLE * _MULTIPLE, columns // _MULTIPLE * _MULTIPLE

    @staticmethod
    def _usable(simulator: Simulator, numbers: np.random.Generator, shape: tuple[int, int]) -> TrainingSample:
        """Return a sample from which sensitivities can be estimated."""
        for _ in range(_TRIES):
            sample = simulator.sample(int(numbers.integers(1 << 62)), shape)
            enough = min(sample.calibration.shape[1:]) >= MINIMUM_CALIBRATION and sample.kspace.shape[0] > 1
            if enough and np.abs(sample.calibration).max() > 0:
                return sample
        raise RuntimeError(f"none of {_TRIES} simulated samples has calibration data for sensitivities")


def example_of(samples: Sequence[TrainingSample], architecture: UnrolledArchitecture) -> Example:
    """Estimate sensitivities and noise of samples of one size, as in use, and combine the truth with them.

    Everything is divided by the brightness of the truth, so that losses need not know the scale.
    """
    batch = PackedBatch.pack(
        [sample.kspace for sample in samples],
        [sample.mask for sample in samples],
        [sample.calibration for sample in samples],
    )
    with torch.no_grad():
        posed = parallel.pose(
            batch,
            _ASKING,
            torch.device("cpu"),
            largest_block=architecture.calibration,
            virtual_coils=architecture.coils,
        )
        problem = posed.inverse_problem(noise_estimate(architecture))
        layout = posed.encoding.layout
        truth = torch.cat([torch.from_numpy(sample.coil_images) for sample in samples])
        combined = coils.reduce(truth, posed.encoding.sensitivities, layout)
        squares = torch.view_as_real(truth).square().sum(dim=-1)
        magnitudes = coils.sum_segments(squares, layout).sqrt()
        brightness = bright_pixels(magnitudes)
        # The samples were divided by powers of two.
        factors = (posed.scales / brightness).to(torch.float32)
        per_frame, per_image = factors[:, None, None], brightness.to(torch.float32)[:, None, None]
        return Example(
            posed.encoding.sensitivities,
            layout.counts,
            posed.encoding.masks,
            problem.encoding.adjoint(problem.samples) * per_frame,
            problem.noise.to(torch.float32) * factors,
            problem.fractions,
            combined / per_image,
            magnitudes / per_image,
            tuple(str(sample.description) for sample in samples),
        )


def loader(examples: SimulatedExamples, steps: range, workers: int) -> DataLoader[Example]:
    """Return the examples of some steps in order, simulated ahead by worker processes.

    Parameters
    ----------
    examples
        All examples.
    steps
        Which, in which order.
    workers
        Processes; 0 simulates in this one.
    """
    return DataLoader(
        examples,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=6 if workers else None,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_start_worker if workers else None,
    )


def _start_worker(_number: int) -> None:
    torch.set_num_threads(1)


def evaluation_examples(folder: Path, config: TrainingConfig) -> list[Example]:
    """Simulate the frames of every evaluation: the same for all runs of a seed, each alone in its batch.

    Parameters
    ----------
    folder
        Where the volumes are.
    config
        Sizes, seed and number of frames.

    Raises
    ------
    VolumesNotFoundError
        There are none for validation.
    """
    held_out = SimulatedExamples(folder, "validation", dataclasses.replace(config, batch=1), offset=1)
    return [held_out[number] for number in range(config.evaluation_frames)]
