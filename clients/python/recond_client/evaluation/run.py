"""Runs models over volumes through a service."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recond_client.client import Client
from recond_client.errors import InputError
from recond_client.evaluation.scores import Score, ScoreFile
from recond_client.evaluation.volumes import Volume
from recond_client.result import Result

OWN_MASK: Final = "own mask"


@dataclass(frozen=True, slots=True)
class Task:
    """A volume, the model for it, and how its samples are chosen.

    Parameters
    ----------
    volume
        File, size and attributes.
    model
        Name of the model, or ``"auto"``.
    sampling
        ``OWN_MASK``, or an undersampling ``KIND:R:CENTRE``.
    key
        As in `Score`.
    """

    volume: Volume
    model: str
    sampling: str
    key: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A volume that could not be scored.

    Parameters
    ----------
    file, model, sampling
        File, model and undersampling that were tried.
    message
        What the service or the file had against it.
    """

    file: str
    model: str
    sampling: str
    message: str


def plan(client: Client, volumes: Sequence[Volume], models: Sequence[str], samplings: Sequence[str]) -> list[Task]:
    """Return what has to be computed: for each model and sampling all volumes.

    Parameters
    ----------
    client
        Tells which weights its service has.
    volumes, models, samplings
        Every volume is scored with every model at every sampling.

    Raises
    ------
    InputError
        The service has no model of that name.
    """
    tasks = []
    for model in models:
        state = _state_of(client, model)
        for sampling in samplings:
            tasks += [Task(volume, model, sampling, _key(volume, sampling, state)) for volume in volumes]
    return tasks


def run(
    client: Client,
    tasks: Sequence[Task],
    scores: ScoreFile,
    *,
    save: Path | None = None,
    begin: Callable[[Task], None] = lambda task: None,  # noqa: ARG005 - documents the call
) -> Iterator[Score | Failure]:
    """Score volumes one after another; those that the file has are not computed again.

    Parameters
    ----------
    client
        Connection to the service that reconstructs.
    tasks
        Volumes with their models, in the order in which they are scored.
    scores
        What has been scored already; grows.
    save
        Also write the images, fastMRI layout, to ``MODEL/SAMPLING/FILE`` in this folder.
    begin
        Called before each task.

    Yields
    ------
    Score or Failure
        One for each task, in order.

    Raises
    ------
    RecondError
        The service is away, overloaded or broken: what was scored so far is kept.
    """
    for task in tasks:
        begin(task)
        target = None if save is None else _target(save, task)
        known = scores.get(task.key)
        if known is not None and (target is None or target.exists()):
            yield known
            continue
        try:
            score = _score(client, task, target)
        except InputError as error:
            yield Failure(task.volume.path.name, task.model, task.sampling, error.message)
            continue
        scores.add(score)
        yield score


def _score(client: Client, task: Task, target: Path | None) -> Score:
    volume = task.volume
    result = client.reconstruct(
        volume.path,
        reference=volume.truth(),
        model=task.model,
        undersample=None if task.sampling == OWN_MASK else task.sampling,
        outputs=() if target is None else (".h5",),
        priority="research",
        images=False,
    )
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        result.save(target)
    return _score_of(result, task)


def _score_of(result: Result, task: Task) -> Score:
    volume, figures = task.volume, result.figures
    return Score(
        key=task.key,
        file=volume.path.name,
        acquisition=volume.acquisition,
        model=result.model,
        version=result.version,
        weights_sha256=result.weights_sha256,
        asked=task.model,
        sampling=task.sampling,
        slices=volume.slices,
        ssim=figures.ssim,
        psnr=figures.psnr,
        nmse=figures.nmse,
        seconds=result.seconds.compute,
        findings=tuple(finding.code for finding in result.findings if finding.severity == "warning"),
        ssim_object=figures.ssim_object,
        psnr_object=figures.psnr_object,
        nmse_object=figures.nmse_object,
    )


def _target(save: Path, task: Task) -> Path:
    return save / task.model / task.sampling.replace(":", "-").replace(" ", "-") / task.volume.path.name


def _state_of(client: Client, model: str) -> list[tuple[str, str, str]]:
    """Return names, versions and hashes of all models that may run where this one is asked for."""
    # Any model but those that were added may be what `auto` chooses.
    found = [each for each in client.models() if each.origin != "added"] if model == "auto" else [client.model(model)]
    return [(each.name, each.version, each.weights_sha256) for each in found]


def _key(volume: Volume, sampling: str, state: list[tuple[str, str, str]]) -> str:
    """Return a hash over whatever may change the figures."""
    status = volume.path.stat()
    facts = (
        importlib.metadata.version("recond"),
        (volume.path.name, status.st_size, status.st_mtime_ns),
        volume.reference,
        sampling,
        state,
    )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
