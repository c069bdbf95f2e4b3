"""recond's own network: a few rounds of a small U-Net and a fit to the samples.

Each round improves the image with one U-Net, shared by all rounds, and then solves for the image that fits the samples and lies
near it. What comes from physics is computed (coil sensitivities, Fourier transforms, data consistency), what heads look like is
learnt.
Three things tell the U-Net what it is looking at: the noise level, how much was measured and the number of the round modulate its
features (Perez et al. 2018, FiLM, doi:10.1609/aaai.v32i1.11671); the gradient of the data term shows where the image does not fit;
and the features of the round before stand beside the image, so that nothing seen is lost between rounds.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from recond_kernels import interruption
from recond_models.networks.conditioned_unet import ConditionedUNet
from recond_models.networks.data_consistency import Directions, Operator, first_fit, fit
from recond_models.networks.deviation import DeviationHead

_CONDITIONS = 3  # noise level, measured part of k-space, their product
_CONDITION_WIDTH = 64
_LIMITS = (
    ("rounds", 1, 32),
    ("bottleneck_blocks", 0, 16),
    ("iterations", 1, 64),
    ("calibration", 8, 64),
    ("coils", 2, 64),
    ("context", 0, 1024),
    ("deviation", 0, 256),
)
_ADDED = ("context", "trust", "resolution", "calibrated_noise", "spectral", "recycle", "deviation")
_SMALLEST_NOISE = 1e-4
_START_WEIGHTS = (1e-3, 0.1)
# By how much the weight of a pixel can differ from that of its frame, as an exponent.
_TRUST_RANGE = 3.0
# Gains of logarithmic frequency and its square; the first is the exponent of a power law.
_SPECTRAL_TERMS = 2
_SPECTRAL_RANGE = 2.0
_SPECTRAL_LIMIT = 6.0
_CENTRE, _MIDDLE = 0.05, 0.5
_PROBE_SEED = 7
_PROBE_WINDOW = 9
_PROBE_ITERATIONS = 8
_SCAN_CONDITIONS = 2
_USUAL_SIDE = 160
# The weight of a proposal in the fit lies between this times exp(-range) and this.
_LARGEST_WEIGHT = 1.0
_WEIGHT_RANGE = 7.0
ROUNDS_WEIGHT = "conditions.0.weight"
"""The one weight whose shape depends on the number of rounds: its last columns are one for each."""
ADDED_WEIGHTS = ("scan.", "spectrum.", "regulariser.context.", "regulariser.aside.", "regulariser.trust.", "deviation.")
"""How the weights are named that only some architectures have; they begin by doing nothing."""


@dataclass(frozen=True, slots=True)
class UnrolledArchitecture:
    """Sizes of an `UnrolledNetwork`.

    Parameters
    ----------
    rounds
        How often the image is improved and fitted.
    channels
        Features of the U-Net at each level, finest first; every level halves rows and columns.
    bottleneck_blocks
        Residual blocks at the coarsest level.
    start_iterations, iterations
        Steps of conjugate gradients before the first and in each round.
    calibration
        Rows and columns of calibration data that sensitivities are estimated from at most.
    coils
        Most virtual coils.
    context
        Features of one more level, coarser than the last of `channels`: a wider view. 0 for none.
    trust
        How much a proposal counts in the fit is told for every pixel, not for the frame alone.
    calibrated_noise
        The noise is estimated from the calibration samples where the edge of k-space still holds signal: see `noise_level`.
    spectral
        Proposals count differently at low and at high frequencies, by the condition.
    recycle
        Every fit begins within the search directions of those before.
    resolution
        The network sees how much of every pixel the samples decide, and how large the matrix is.
    deviation
        Features of the part that predicts the standard deviation of the error; 0 if there is none.
    """

    rounds: int = 5
    channels: tuple[int, ...] = (32, 64, 128, 192)
    bottleneck_blocks: int = 2
    start_iterations: int = 8
    iterations: int = 4
    calibration: int = 24
    coils: int = 12
    context: int = 0
    trust: bool = False
    resolution: bool = False
    calibrated_noise: bool = False
    spectral: bool = False
    recycle: bool = False
    deviation: int = 0

    def __post_init__(self) -> None:
        for name, least, most in _LIMITS:
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} of an unrolled network must be {least} to {most}, got {getattr(self, name)}")
        if not 2 <= len(self.channels) <= 6 or not all(1 <= width <= 1024 for width in self.channels):
            raise ValueError(f"channels must hold 2 to 6 numbers from 1 to 1024, got {list(self.channels)}")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> UnrolledArchitecture:
        """Return what `to_json` described.

        Raises
        ------
        ValueError
            A field is missing, unknown or out of range.
        """
        names = {field.name for field in fields(cls)}
        if not names - set(_ADDED) <= set(data) <= names:
            raise ValueError(
                f"the architecture of an unrolled network has the fields {sorted(names)}, got {sorted(data)}"
            )
        return cls(
            rounds=int(data["rounds"]),
            channels=tuple(int(number) for number in data["channels"]),
            bottleneck_blocks=int(data["bottleneck_blocks"]),
            start_iterations=int(data["start_iterations"]),
            iterations=int(data["iterations"]),
            calibration=int(data["calibration"]),
            coils=int(data["coils"]),
            context=int(data.get("context", 0)),
            trust=bool(data.get("trust", False)),
            resolution=bool(data.get("resolution", False)),
            calibrated_noise=bool(data.get("calibrated_noise", False)),
            spectral=bool(data.get("spectral", False)),
            recycle=bool(data.get("recycle", False)),
            deviation=int(data.get("deviation", 0)),
        )

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain values; what older networks did not have is in it only where it is used."""
        values = asdict(self) | {"channels": list(self.channels)}
        return {name: value for name, value in values.items() if name not in _ADDED or value}


class Rounds(NamedTuple):
    """What an `UnrolledNetwork` made.

    Parameters
    ----------
    images
        complex64 (batch, rows, columns) after every round, the best last. They scale with data and noise.
    proposals
        The same before they were fitted to the samples.
    deviations
        float32 (batch, rows, columns): the standard deviation of the error of the last magnitude image; None if nobody asked.
    """

    images: list[Tensor]
    proposals: list[Tensor]
    deviations: Tensor | None


class UnrolledNetwork(nn.Module):
    """Rounds of a shared U-Net and data consistency.

    Parameters
    ----------
    architecture
        Sizes.
    """

    def __init__(self, architecture: UnrolledArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        width = architecture.channels[0]
        self.conditions = nn.Sequential(
            nn.Linear(_CONDITIONS + architecture.rounds, _CONDITION_WIDTH),
            nn.SiLU(),
            nn.Linear(_CONDITION_WIDTH, _CONDITION_WIDTH),
            nn.SiLU(),
        )
        self.weight = nn.Linear(_CONDITION_WIDTH, 1)
        self.regulariser = ConditionedUNet(
            6,
            2,
            architecture.channels,
            architecture.bottleneck_blocks,
            _CONDITION_WIDTH,
            context=architecture.context,
            aside=int(architecture.resolution),
            trust=architecture.trust,
        )
        if architecture.spectral:
            self.spectrum = nn.Linear(_CONDITION_WIDTH, _SPECTRAL_TERMS, bias=False)
            nn.init.zeros_(self.spectrum.weight)
        if architecture.resolution:
            self.scan = nn.Linear(_SCAN_CONDITIONS, _CONDITION_WIDTH, bias=False)
            nn.init.zeros_(self.scan.weight)
        self.deviation = (
            DeviationHead(width, architecture.deviation, _CONDITION_WIDTH) if architecture.deviation else None
        )
        self.width = width
        nn.init.zeros_(self.weight.weight)
        nn.init.zeros_(self.weight.bias)

    def forward(
        self,
        data: Tensor,
        normal: Operator,
        noise: Tensor,
        fractions: Tensor,
        rounds: int | None = None,
        *,
        deviations: bool = False,
    ) -> Rounds:
        """Reconstruct.

        Parameters
        ----------
        data
            complex64 (batch, rows, columns): ``A^H y``, sensitivities of root sum of squares 1 in the object.
        normal
            ``A^H A`` for the whole batch; it must not mix frames.
        noise
            float32 (batch,): standard deviation of real and imaginary part of the noise in a sample of y.
        fractions
            float32 (batch,): measured part of k-space, 0 to 1.
        rounds
            How many rounds to make, all unless given.
        deviations
            Predict the deviation of the last image too.

        Raises
        ------
        ValueError
            This network predicts no deviations.
        """
        if deviations and self.deviation is None:
            raise ValueError("this network has no part that predicts deviations")
        sizes = self.architecture
        directions = Directions(sizes.start_iterations + sizes.rounds * sizes.iterations) if sizes.recycle else None
        start, misfits, scale = self._start(data, normal, noise, directions)
        data, noise = data / scale[:, None, None], noise / scale
        images, memory = start, None
        resolution = _resolution(data, normal) if self.architecture.resolution else None
        results, proposals = [], []
        for number in range(self.architecture.rounds if rounds is None else rounds):
            interruption.checkpoint()
            condition = self._condition(noise, fractions, number, resolution)
            weights = _LARGEST_WEIGHT * torch.exp(
                _WEIGHT_RANGE * (torch.sigmoid(self.weight(condition)[:, 0].float()) - 1)
            )
            inputs = torch.cat([_planes(images), _planes(misfits), _planes(start)], dim=1)
            correction, memory = self.regulariser(inputs, condition, memory, resolution)
            proposal = images + torch.view_as_complex(correction[:, :2].permute(0, 2, 3, 1).contiguous())
            if self.architecture.trust:
                weights = weights[:, None, None] * torch.exp(_TRUST_RANGE * torch.tanh(correction[:, 2]))
            proposals.append(proposal * scale[:, None, None])
            profile = self._profile(condition, images) if self.architecture.spectral else None
            images, misfits = fit(proposal, data, weights, normal, self.architecture.iterations, profile, directions)
            results.append(images * scale[:, None, None])
        if not deviations or self.deviation is None:
            return Rounds(results, proposals, None)
        predicted = self.deviation(memory, condition, images, proposal, start, misfits)
        return Rounds(results, proposals, predicted * scale[:, None, None])

    @torch.no_grad()
    def begin_rounds(self, first: int, end: int) -> None:
        """Let rounds that were never made begin with what the one before them has learnt.

        Parameters
        ----------
        first, end
            Rounds ``first`` to ``end - 1``; `first` is at least 1.
        """
        columns = self.get_parameter(ROUNDS_WEIGHT)[:, _CONDITIONS:]
        columns[:, first:end] = columns[:, first - 1 : first]

    @torch.no_grad()
    def _start(
        self, data: Tensor, normal: Operator, noise: Tensor, directions: Directions | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the first image and its misfit, normalised, and float32 (batch,) what they were divided by."""
        weights = (noise / _bright(data)).square().clamp(*_START_WEIGHTS)
        images, misfits = first_fit(data, weights, normal, self.architecture.start_iterations, directions)
        scale = _bright(images)
        return images / scale[:, None, None], misfits / scale[:, None, None], scale

    def _condition(self, noise: Tensor, fractions: Tensor, number: int, resolution: Tensor | None) -> Tensor:
        """Return float32 (batch, condition width)."""
        level = torch.log10(noise.clamp(_SMALLEST_NOISE, 1)) / 2 + 1
        sparsity = -torch.log2(fractions.clamp_min(1 / 64)) / 2 - 1
        which = functional.one_hot(
            torch.full((noise.shape[0],), number, device=noise.device), self.architecture.rounds
        ).to(level.dtype)
        features = torch.cat([torch.stack([level, sparsity, level * sparsity], dim=1), which], dim=1)
        first, *others = self.conditions
        conditions: Tensor = first(features)
        if resolution is not None:
            rows, columns = resolution.shape[2:]
            side = torch.full_like(level, 0.5 * math.log2(rows * columns) - math.log2(_USUAL_SIDE))
            decided = resolution.flatten(1).sum(dim=1) / (resolution > 0).flatten(1).sum(dim=1).clamp_min(1)
            conditions = conditions + self.scan(torch.stack([side, decided], dim=1))
        for layer in others:
            conditions = layer(conditions)
        return conditions

    def _profile(self, condition: Tensor, images: Tensor) -> Tensor:
        """Return factors of the weights for every frequency, float32 (batch, rows, columns), the lowest in the corner."""
        down, across = (2 * torch.fft.fftfreq(size, device=images.device) for size in images.shape[1:])
        radius = torch.hypot(down[:, None], across[None, :])
        slope = torch.log((radius + _CENTRE) / (_MIDDLE + _CENTRE))
        terms = torch.stack([slope, slope.square()])
        gains = _SPECTRAL_RANGE * torch.tanh(self.spectrum(condition).float())
        return torch.exp(torch.tensordot(gains, terms, dims=1).clamp(-_SPECTRAL_LIMIT, _SPECTRAL_LIMIT))


@torch.no_grad()
def _resolution(data: Tensor, normal: Operator) -> Tensor:
    """Return how much of each pixel the samples decide, float32 (batch, 1, rows, columns): 0 nothing, 1 all of it.

    It is the diagonal of the operator from an image to its fit, estimated with a random image and averaged over neighbours
    (Bekas et al. 2007, doi:10.1016/j.apnum.2007.01.003). Aliasing and a high g-factor make it small.
    """
    generator = torch.Generator().manual_seed(_PROBE_SEED)
    turns = torch.rand(data.shape[1:], generator=generator).to(data.device) * (2 * torch.pi)
    probe = torch.polar(torch.ones_like(turns), turns).expand_as(data).contiguous()
    weights = torch.full((data.shape[0],), _START_WEIGHTS[0], device=data.device)
    fitted, _ = first_fit(normal(probe), weights, normal, _PROBE_ITERATIONS)
    decided = torch.view_as_real(probe.conj() * fitted)[..., 0][:, None]
    for _ in range(2):
        decided = functional.avg_pool2d(
            decided, _PROBE_WINDOW, stride=1, padding=_PROBE_WINDOW // 2, count_include_pad=False
        )
    return decided.clamp(0, 1)


def _planes(images: Tensor) -> Tensor:
    """Return real and imaginary parts, float32 (batch, 2, rows, columns)."""
    return torch.view_as_real(images).permute(0, 3, 1, 2)


def _bright(images: Tensor) -> Tensor:
    """Return float32 (batch,): the 99th percentile of the magnitudes; 1 for an image of zeros."""
    magnitudes = images.abs().flatten(1)
    rank = max(1, round(0.99 * magnitudes.shape[1]))
    level = magnitudes.kthvalue(rank, dim=1).values
    return torch.where(level > 0, level, 1)
