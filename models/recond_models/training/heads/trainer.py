"""Training a head: resumable to the step, and the same whenever it is run with the same seed."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recond_models.heads.network import SliceUNet
from recond_models.training.config import TrainingConfigError
from recond_models.training.heads.config import HeadTrainingConfig
from recond_models.training.heads.losses import DiceCounter, dice_and_cross_entropy
from recond_models.training.heads.samples import Sample, Samples
from recond_models.training.history import FIGURES, LOSSES, Table

CHECKPOINT = "checkpoint.pt"
BEST = "best.safetensors"
"""Averaged weights of the evaluation with the best mean Dice, float32."""
ARCHITECTURE = "architecture.json"
"""Arguments of `SliceUNet`."""

_LARGEST_GRADIENT = 5.0
_REPORT_EVERY = 25


@dataclass(frozen=True, slots=True)
class HeadProgress:
    """Where a training run is.

    Parameters
    ----------
    step
        Updates made so far.
    steps
        Updates in all.
    loss
        Mean of the last few.
    dice
        Mean of the classes but the background in the last evaluation, None before the first.
    """

    step: int
    steps: int
    loss: float
    dice: float | None


class HeadTrainer:
    """A training run of a head in a folder.

    Parameters
    ----------
    config
        What to train and how.
    samples
        To train on.
    held_out
        To evaluate on; of other subjects.
    folder
        Where checkpoints and tables go; a run that is there already goes on.
    device
        torch device.
    easy
        To train on in the first `easy_steps`; None for the same as later.

    Raises
    ------
    TrainingConfigError
        The folder holds a run of another architecture or seed, or the architecture or `start` cannot be used.
    """

    def __init__(
        self,
        config: HeadTrainingConfig,
        samples: Samples,
        held_out: Samples,
        folder: Path,
        device: str,
        easy: Samples | None = None,
    ) -> None:
        self._config, self._samples, self._easy = config, samples, easy or samples
        self._held_out, self._evaluation = held_out, list[Sample]()
        self._folder, self._device = folder, torch.device(device)
        torch.manual_seed(config.seed)
        try:
            network = SliceUNet(classes=samples.classes, **config.architecture)
        except (TypeError, ValueError) as error:
            raise TrainingConfigError(f"architecture: {error}") from error
        if config.start:
            begin_from(network, Path(config.start))
        self.network: SliceUNet = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(requires_grad=False).eval()
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._losses = Table(folder / LOSSES, ("step", "loss", "learning_rate", "seconds", "seconds_of_samples"))
        self._figures = Table(
            folder / FIGURES, ("step", "dice", *(f"class_{number}" for number in range(samples.classes)))
        )
        (folder / ARCHITECTURE).write_text(json.dumps(network.architecture(), indent=2) + "\n")
        if (folder / CHECKPOINT).exists():
            self._resume()
        for table in (self._losses, self._figures):
            table.forget_after(self.step)

    def run(
        self, report: Callable[[HeadProgress], None], *, stop_after: int | None = None, seconds: float | None = None
    ) -> None:
        """Train to the end.

        Parameters
        ----------
        report
            Called every few steps.
        stop_after
            Stop with a checkpoint after this many updates of this call, as an interrupted run would.
        seconds
            Stop with a checkpoint after about this processor time of this call.
        """
        config = self._config
        deadline = None if seconds is None else time.process_time() + seconds
        last = config.steps if stop_after is None else min(config.steps, self.step + stop_after)
        recent, dice = list[float](), self.best[1] if self.best else None
        began, drawing = time.monotonic(), 0.0
        while self.step < last:
            asked = time.monotonic()
            images, targets = self._batch()
            drawing += time.monotonic() - asked
            recent.append(self._update(images, targets))
            self.step += 1
            if self.step % _REPORT_EVERY == 0 or self.step == last:
                mean = sum(recent) / len(recent)
                rate = config.learning_rate_at(self.step - 1)
                self._losses.add((self.step, mean, rate, time.monotonic() - began, drawing))
                report(HeadProgress(self.step, config.steps, mean, dice))
                recent.clear()
                began, drawing = time.monotonic(), 0.0
            if self.step % config.evaluate_every == 0 or self.step == config.steps:
                dice = self._evaluate()
            late = deadline is not None and time.process_time() > deadline
            if self.step % config.checkpoint_every == 0 or self.step == last or late:
                self.save()
            if late:
                break

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and mean Dice of the best evaluation."""
        rows = self._figures.rows()
        if not rows:
            return None
        row = max(rows, key=lambda row: row[1])
        return int(row[0]), row[1]

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

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Return images and targets of the present step."""
        samples = self._easy if self.step < self._config.easy_steps else self._samples
        drawn = [
            samples.draw(np.random.default_rng([self._config.seed, 0, self.step, number]))
            for number in range(self._config.batch)
        ]
        return self._tensors(drawn)

    def _tensors(self, samples: list[Sample]) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(np.stack([sample.image for sample in samples]))
        targets = torch.from_numpy(np.stack([sample.target for sample in samples]))
        return (
            images.to(self._device, memory_format=torch.channels_last),
            targets.to(self._device, dtype=torch.int64),
        )

    def _update(self, images: Tensor, targets: Tensor) -> float:
        """Make one update; return the loss before it."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.learning_rate_at(self.step)
        self.network.train()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.precision == "bfloat16"):
            logits = self.network(images)
        value = dice_and_cross_entropy(logits.float(), targets)
        self._optimiser.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        if bool(torch.isfinite(norm)):
            self._optimiser.step()
            self._follow()
        return float(value.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights and what the normalisations have counted, faster in the beginning."""
        keep = min(self._config.average, (self.step + 1) / (self.step + 10))
        own, other = self.average.state_dict(), self.network.state_dict()
        names = [name for name, tensor in own.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([own[name] for name in names], [other[name] for name in names], 1 - keep)

    @torch.no_grad()
    def _evaluate(self) -> float:
        """Evaluate the average on held-out samples, write the figures, keep the best weights; return the mean Dice."""
        if not self._evaluation:
            self._evaluation = [
                self._held_out.draw(np.random.default_rng([self._config.seed, 1, number]))
                for number in range(self._config.evaluation_samples)
            ]
        counter = DiceCounter(self._samples.classes)
        for sample in self._evaluation:
            images, targets = self._tensors([sample])
            counter.add(self.average(images).argmax(dim=1), targets)
        scores = counter.scores()
        dice = float(np.nanmean(scores[1:]))
        best = self.best
        if best is None or dice > best[1] or math.isnan(best[1]):
            unfinished = self._folder / (BEST + ".part")
            save_file(weights_of(self.average), unfinished)
            unfinished.replace(self._folder / BEST)
        self._figures.add((self.step, dice, *scores))
        return dice

    def _resume(self) -> None:
        """Go on from the checkpoint."""
        state = torch.load(self._folder / CHECKPOINT, map_location=self._device, weights_only=True)
        before = HeadTrainingConfig.from_json(state["config"])
        if (before.architecture, before.seed) != (self._config.architecture, self._config.seed):
            raise TrainingConfigError(
                f"{self._folder} holds a run of another architecture or seed: choose another folder, or remove it to start anew"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])


def begin_from(network: SliceUNet, path: Path) -> None:
    """Give a network the weights of one that may have other classes; what has another shape stays as it is.

    Parameters
    ----------
    network
        The network.
    path
        safetensors file of the other one.

    Raises
    ------
    TrainingConfigError
        The file cannot be read, or nothing in it fits.
    """
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainingConfigError(f"start: {path} cannot be read: {error}") from error
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
    if len(fitting) < len(own) // 2:
        raise TrainingConfigError(f"start: {path} belongs to a network of another shape")
    network.load_state_dict(own | fitting)


def weights_of(network: SliceUNet) -> dict[str, Tensor]:
    """Return the weights as they are saved: on the CPU, contiguous, what is a fraction as float32."""
    return {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in network.state_dict().items()
    }
