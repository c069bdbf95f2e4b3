"""Training an unrolled network: resumable to the step, and the same whenever it is run with the same seed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recond_models.networks.deviation import unlikelihood
from recond_models.networks.unrolled import ADDED_WEIGHTS, ROUNDS_WEIGHT, Rounds, UnrolledNetwork
from recond_models.training.config import TrainingConfig, TrainingConfigError
from recond_models.training.evaluation import Figures, evaluate
from recond_models.training.examples import Example, SimulatedExamples, loader
from recond_models.training.history import History
from recond_models.training.losses import loss, object_weights

CHECKPOINT = "checkpoint.pt"
BEST = "best.safetensors"
"""Averaged weights of the evaluation with the best SSIM inside the object, float32."""

_LARGEST_GRADIENT = 1.0
_REPORT_EVERY = 25


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training run is.

    Parameters
    ----------
    step
        Updates made so far.
    steps
        Updates in all.
    loss
        Mean of the last few.
    figures
        Of the last evaluation, None before the first.
    """

    step: int
    steps: int
    loss: float
    figures: Figures | None


class Trainer:
    """A training run in a folder.

    Parameters
    ----------
    config
        What to train and how.
    examples
        To train on.
    held_out
        To evaluate on; of other subjects.
    folder
        Where checkpoints, plots and the history go; a run that is there already goes on.
    device
        torch device.

    Raises
    ------
    TrainingConfigError
        The folder holds a run of another architecture or seed.
    """

    def __init__(
        self, config: TrainingConfig, examples: SimulatedExamples, held_out: list[Example], folder: Path, device: str
    ) -> None:
        self._config = config
        self._examples = examples
        self._held_out = held_out
        self._folder = folder
        self._device = torch.device(device)
        torch.manual_seed(config.seed)
        network = UnrolledNetwork(config.architecture)
        if config.start:
            begin_from(network, Path(config.start))
        self.network: UnrolledNetwork = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(requires_grad=False).eval()
        if config.only:
            for name, parameter in self.network.named_parameters():
                parameter.requires_grad_(name.startswith(config.only + "."))
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self._optimiser = torch.optim.Adam(trained, lr=config.learning_rate, betas=(0.9, 0.999))
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.history = History(folder)
        if (folder / CHECKPOINT).exists():
            self._resume()

    def run(
        self, report: Callable[[Progress], None], *, stop_after: int | None = None, seconds: float | None = None
    ) -> None:
        """Train to the end.

        Parameters
        ----------
        report
            Called every few steps.
        stop_after
            Stop with a checkpoint after this many updates of this call, as an interrupted run would.
        seconds
            Stop with a checkpoint after about this processor time of this call, that of `data_workers` apart.
        """
        deadline = None if seconds is None else time.process_time() + seconds
        last = self._config.steps if stop_after is None else min(self._config.steps, self.step + stop_after)
        recent: list[float] = []
        figures: Figures | None = None
        began = time.monotonic()
        for example in self._stream(last):
            recent.append(self._update(example))
            self.step += 1
            if self.step % _REPORT_EVERY == 0 or self.step == last:
                mean = sum(recent) / len(recent)
                self.history.add_loss(
                    self.step, mean, self._config.learning_rate_at(self.step - 1), time.monotonic() - began
                )
                report(Progress(self.step, self._config.steps, mean, figures))
                recent.clear()
                began = time.monotonic()
            if self.step % self._config.evaluate_every == 0 or self.step == self._config.steps:
                figures = evaluate(
                    self.average,
                    self._held_out,
                    self._device,
                    half=self._half,
                    rounds=self._config.rounds_at(self.step),
                )
                best = self.history.best_figures
                # While deviations are trained the images stay as they are.
                if self._config.only or best is None or figures.ssim_object > best[1].ssim_object:
                    _write(self._folder / BEST, weights_of(self.average))
                self.history.add_figures(self.step, figures)
                self.history.plot()
            late = deadline is not None and time.process_time() > deadline
            if self.step % self._config.checkpoint_every == 0 or self.step == last or late:
                self.save()
            if late:
                break

    @property
    def _half(self) -> bool:
        return self._config.precision == "bfloat16"

    def _stream(self, last: int) -> Iterator[Example]:
        """Yield the examples from the present step on."""
        yield from loader(self._examples, range(self.step, last), self._config.data_workers)

    def _update(self, example: Example) -> float:
        """Make one update; return the loss before it."""
        config = self._config
        before, rounds_made = config.rounds_at(max(self.step - 1, 0)), config.rounds_at(self.step)
        if rounds_made > before:
            for network in (self.network, self.average):
                network.begin_rounds(before, rounds_made)
        for group in self._optimiser.param_groups:
            group["lr"] = config.learning_rate_at(self.step)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            made = self.network(
                example.data.to(self._device),
                example.encoding(self._device).gram,
                example.noise.to(self._device),
                example.fractions.to(self._device),
                rounds_made,
                deviations=config.only == "deviation",
            )
        value = self._loss(made, example)
        self._optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        if bool(torch.isfinite(norm)):
            self._optimiser.step()
            self._follow()
        return float(value.detach())

    def _loss(self, made: Rounds, example: Example) -> Tensor:
        """Return what this run makes small."""
        config = self._config
        magnitudes = example.magnitudes.to(self._device)
        if made.deviations is not None:
            errors = made.images[-1].abs() - magnitudes
            return unlikelihood(made.deviations, errors, object_weights(magnitudes))
        truth = example.images.to(self._device)
        return loss(made.images, made.proposals, truth, magnitudes, config.earlier, inside=config.inside)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights, faster in the beginning."""
        keep = min(self._config.average, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)

    def save(self) -> None:
        """Write a checkpoint; a crash meanwhile leaves the one before."""
        state = {
            "config": self._config.to_json(),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        unfinished = self._folder / (CHECKPOINT + ".part")
        torch.save(state, unfinished)
        unfinished.replace(self._folder / CHECKPOINT)

    def _resume(self) -> None:
        """Go on from the checkpoint."""
        state = torch.load(self._folder / CHECKPOINT, map_location=self._device, weights_only=True)
        before = TrainingConfig.from_json(state["config"])
        if (before.architecture, before.seed) != (self._config.architecture, self._config.seed):
            raise TrainingConfigError(
                f"{self._folder} holds a run of another architecture or seed: choose another folder, or remove it to start anew"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])
        self.history.forget_after(self.step)


def begin_from(network: UnrolledNetwork, path: Path) -> None:
    """Give a network the weights of one that may make another number of rounds.

    Parameters
    ----------
    network
        The network.
    path
        safetensors file of the other one.

    Raises
    ------
    TrainingConfigError
        The file cannot be read, or the other network has other channels.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainingConfigError(f"start: {path} cannot be read: {error}") from error
    own = network.state_dict()
    if (first := weights.get(ROUNDS_WEIGHT)) is not None and first.shape[0] == own[ROUNDS_WEIGHT].shape[0]:
        # One column for each round, the last: what the other one never did starts at random.
        columns = min(first.shape[1], own[ROUNDS_WEIGHT].shape[1])
        weights[ROUNDS_WEIGHT] = torch.cat([first[:, :columns], own[ROUNDS_WEIGHT][:, columns:]], dim=1)
    # What older networks did not have begins by doing nothing.
    added = {name: tensor for name, tensor in own.items() if name.startswith(ADDED_WEIGHTS)}
    try:
        network.load_state_dict(added | weights)
    except RuntimeError as error:
        raise TrainingConfigError(f"start: {path} belongs to a network of another shape: {error}") from error


def _write(path: Path, weights: dict[str, Tensor]) -> None:
    """Write weights whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    save_file(weights, unfinished)
    unfinished.replace(path)


def weights_of(network: UnrolledNetwork) -> dict[str, Tensor]:
    """Return the weights as they are saved: float32, contiguous, on the CPU."""
    return {
        name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in network.state_dict().items()
    }
