"""Training the head `series`: resumable to the step, and the same whenever it is run with the same seed."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as nnf
from safetensors.torch import save_file
from torch import Tensor

from recond_models.heads.series_network import OUTPUTS, SeriesNetwork
from recond_models.training.config import TrainingConfigError
from recond_models.training.heads.config import HeadTrainingConfig
from recond_models.training.heads.samples import IGNORED
from recond_models.training.heads.series_samples import SeriesSample, SeriesSamples
from recond_models.training.heads.trainer import ARCHITECTURE, BEST, CHECKPOINT, HeadProgress
from recond_models.training.history import FIGURES, LOSSES, Table

_LARGEST_GRADIENT = 5.0
_REPORT_EVERY = 25
_SMOOTHING = 0.05


class SeriesTrainer:
    """A training run of the head `series` in a folder.

    Parameters
    ----------
    config
        What to train and how; `size` has no effect.
    samples
        To train on.
    held_out
        To evaluate on; of other subjects.
    folder
        Where checkpoints and tables go; a run that is there already goes on.
    device
        torch device.

    Raises
    ------
    TrainingConfigError
        The folder holds a run of another architecture or seed, or the architecture cannot be used.
    """

    def __init__(
        self, config: HeadTrainingConfig, samples: SeriesSamples, held_out: SeriesSamples, folder: Path, device: str
    ) -> None:
        self._config, self._samples, self._held_out = config, samples, held_out
        self._folder, self._device = folder, torch.device(device)
        self._evaluation: list[SeriesSample] = []
        torch.manual_seed(config.seed)
        try:
            network = SeriesNetwork(**config.architecture)
        except (TypeError, ValueError) as error:
            raise TrainingConfigError(f"architecture: {error}") from error
        self.network = network.to(self._device)
        self.average = copy.deepcopy(self.network).requires_grad_(requires_grad=False).eval()
        self._optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._losses = Table(folder / LOSSES, ("step", "loss", "learning_rate", "seconds"))
        self._figures = Table(folder / FIGURES, ("step", "mean", *(name.replace(" ", "_") for name in OUTPUTS)))
        (folder / ARCHITECTURE).write_text(json.dumps(network.architecture(), indent=2) + "\n")
        if (folder / CHECKPOINT).exists():
            self._resume()

    def run(
        self, report: Callable[[HeadProgress], None], *, stop_after: int | None = None, seconds: float | None = None
    ) -> None:
        """Train to the end.

        Parameters
        ----------
        report
            Called every few steps; the figure is the mean accuracy.
        stop_after
            Stop with a checkpoint after this many updates of this call.
        seconds
            Stop with a checkpoint after about this processor time of this call.
        """
        config = self._config
        deadline = None if seconds is None else time.process_time() + seconds
        last = config.steps if stop_after is None else min(config.steps, self.step + stop_after)
        recent, accuracy = list[float](), self.best[1] if self.best else None
        began = time.monotonic()
        while self.step < last:
            drawn = [
                self._samples.draw(np.random.default_rng([config.seed, 0, self.step, number]))
                for number in range(config.batch)
            ]
            recent.append(self._update(*self._tensors(drawn)))
            self.step += 1
            if self.step % _REPORT_EVERY == 0 or self.step == last:
                mean = sum(recent) / len(recent)
                rate = config.learning_rate_at(self.step - 1)
                self._losses.add((self.step, mean, rate, time.monotonic() - began))
                report(HeadProgress(self.step, config.steps, mean, accuracy))
                recent.clear()
                began = time.monotonic()
            if self.step % config.evaluate_every == 0 or self.step == config.steps:
                accuracy = self._evaluate()
            late = deadline is not None and time.process_time() > deadline
            if self.step % config.checkpoint_every == 0 or self.step == last or late:
                self.save()
            if late:
                break

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and mean accuracy of the best evaluation."""
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

    def _tensors(self, drawn: Sequence[SeriesSample]) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(np.stack([sample.image for sample in drawn]))[:, None]
        classes = torch.from_numpy(np.stack([sample.classes for sample in drawn]))
        return images.to(self._device), classes.to(self._device, dtype=torch.int64)

    def _update(self, images: Tensor, classes: Tensor) -> float:
        """Make one update; return the loss before it."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.learning_rate_at(self.step)
        self.network.train()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.precision == "bfloat16"):
            scores = self.network(images)
        losses = [
            nnf.cross_entropy(scores[name].float(), classes[:, place], ignore_index=IGNORED, label_smoothing=_SMOOTHING)
            for place, name in enumerate(OUTPUTS)
            if bool((classes[:, place] != IGNORED).any())
        ]
        loss = torch.stack(losses).sum()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        if bool(torch.isfinite(norm)):
            self._optimiser.step()
            self._follow()
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights, faster in the beginning."""
        keep = min(self._config.average, (self.step + 1) / (self.step + 10))
        own, other = self.average.state_dict(), self.network.state_dict()
        for name, tensor in own.items():
            if tensor.is_floating_point():
                tensor.lerp_(other[name], 1 - keep)

    @torch.no_grad()
    def _evaluate(self) -> float:
        """Evaluate the average on held-out samples, keep the best weights; return the mean accuracy."""
        if not self._evaluation:
            self._evaluation = [
                self._held_out.draw(np.random.default_rng([self._config.seed, 1, number]))
                for number in range(self._config.evaluation_samples)
            ]
        images, classes = self._tensors(self._evaluation)
        scores = self.average(images)
        accuracies = []
        for place, name in enumerate(OUTPUTS):
            known = classes[:, place] != IGNORED
            right = scores[name].argmax(dim=1)[known] == classes[known, place]
            accuracies.append(float(right.float().mean()) if len(right) else float("nan"))
        mean = float(np.nanmean(accuracies))
        if self.best is None or mean > self.best[1]:
            weights = {
                name: tensor.detach()
                .to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype)
                .contiguous()
                for name, tensor in self.average.state_dict().items()
            }
            unfinished = self._folder / (BEST + ".part")
            save_file(weights, unfinished)
            unfinished.replace(self._folder / BEST)
        self._figures.add((self.step, mean, *accuracies))
        return mean

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
        for table in (self._losses, self._figures):
            table.forget_after(self.step)
