import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from recond_models import metrics
from recond_models.networks.unrolled import UnrolledArchitecture, UnrolledNetwork
from recond_models.object_metrics import inside_object
from recond_models.store.manifest import Manifest
from recond_models.training.commands import train
from recond_models.training.config import TrainingConfig, TrainingConfigError
from recond_models.training.evaluation import score
from recond_models.training.examples import SimulatedExamples, evaluation_examples
from recond_models.training.losses import loss, similarity
from recond_models.training.trainer import Trainer, begin_from, weights_of
from recond_models.training.volumes import SOURCES

SIZES = UnrolledArchitecture(rounds=2, channels=(8, 8), bottleneck_blocks=1, iterations=2, calibration=16, coils=4)
CONFIG = TrainingConfig(
    name="tiny",
    description="A network for tests.",
    architecture=SIZES,
    seed=5,
    steps=6,
    smallest=48,
    largest=64,
    largest_area=64 * 64,
    coils=4,
    rounds=((0, 1), (3, 2)),
    evaluate_every=3,
    evaluation_frames=2,
    checkpoint_every=2,
    precision="float32",
    data_workers=0,
)
TOML = """
name = "tiny"
description = "A network for tests."
steps = 4
smallest = 48
largest = 64
coils = 4
evaluate_every = 2
evaluation_frames = 1
precision = "float32"
data_workers = 0
[architecture]
rounds = 1
channels = [8, 8]
bottleneck_blocks = 0
start_iterations = 4
iterations = 2
calibration = 16
coils = 4
"""


@pytest.fixture(scope="module")
def volumes(tmp_path_factory, head):
    """The head of the tests under the names of one training and one validation source."""
    folder = tmp_path_factory.mktemp("volumes")
    for split in ("training", "validation"):
        source = next(source for source in SOURCES if source.split == split)
        dataclasses.replace(head, source=source).save(folder)
    return folder


def trainer(volumes, folder, config=CONFIG):
    return Trainer(
        config, SimulatedExamples(volumes, "training", config), evaluation_examples(volumes, config), folder, "cpu"
    )


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path, volumes):
    reports = []
    whole = trainer(volumes, tmp_path / "whole")
    whole.run(reports.append)
    for updates in (3, 1, None):
        part = trainer(volumes, tmp_path / "parts")
        part.run(lambda progress: None, stop_after=updates)
    assert part.step == whole.step == reports[-1].step == CONFIG.steps
    for ours, theirs in ((part.network, whole.network), (part.average, whole.average)):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name
    for name in ("losses.csv", "figures.csv", "progress.png", "checkpoint.pt"):
        assert (tmp_path / "parts" / name).stat().st_size > 0
    assert [row.split(",")[0] for row in (tmp_path / "parts" / "figures.csv").read_text().split()] == ["step", "3", "6"]


def test_training_makes_images_better(tmp_path, volumes):
    config = dataclasses.replace(
        CONFIG, steps=60, evaluate_every=60, checkpoint_every=60, rounds=(), learning_rate=2e-3
    )
    run = trainer(volumes, tmp_path, config)
    progress = []
    examples = SimulatedExamples(volumes, "training", config)

    def mean_loss(network):
        with torch.no_grad():
            values = []
            for step in range(8):
                example = examples[step]
                rounds, proposals, _ = network(
                    example.data, example.encoding(torch.device("cpu")).gram, example.noise, example.fractions
                )
                values.append(float(loss(rounds, proposals, example.images, example.magnitudes, 0.0)))
        return np.mean(values)

    before = mean_loss(run.network)
    run.run(progress.append)
    assert mean_loss(run.network) < 0.95 * before
    assert progress[-1].loss > 0


def test_a_run_of_another_architecture_or_seed_is_not_continued(tmp_path, volumes):
    trainer(volumes, tmp_path).save()
    for change in ({"seed": 6}, {"architecture": dataclasses.replace(SIZES, rounds=3)}):
        with pytest.raises(TrainingConfigError, match="another"):
            trainer(volumes, tmp_path, dataclasses.replace(CONFIG, **change))


def test_examples_are_those_of_their_seed_and_of_the_same_scale(volumes):
    examples = SimulatedExamples(volumes, "training", CONFIG)
    first, again, other = examples[2], SimulatedExamples(volumes, "training", CONFIG)[2], examples[3]
    assert torch.equal(first.data, again.data)
    assert first.descriptions != other.descriptions
    for example in (first, other):
        assert example.magnitudes.flatten(1).quantile(0.99, dim=1) == pytest.approx(1, abs=0.02)
        # The combined truth is the root sum of squares where there are sensitivities.
        seen = example.images.abs() > 0
        close = (example.images.abs() - example.magnitudes).abs()[seen]
        assert close.quantile(0.9) < 0.05


def test_similarity_is_that_of_the_figures():
    generator = torch.Generator().manual_seed(0)
    reference = torch.rand(2, 24, 31, generator=generator)
    images = reference + 0.1 * torch.randn(2, 24, 31, generator=generator)
    expected = [metrics.ssim(reference[i : i + 1].numpy(), images[i : i + 1].numpy(), square=False) for i in range(2)]
    torch.testing.assert_close(
        similarity(reference, images), torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=0
    )


def test_loss_is_least_at_the_truth():
    truth = torch.randn(1, 16, 16, dtype=torch.complex64)
    near, far = truth * 1.01, truth * 1.5
    values = [float(loss([image], [image], truth, truth.abs(), 0.1)) for image in (truth, near, far)]
    assert values[0] < values[1] < values[2]


def test_weights_of_a_network_with_other_rounds_can_be_a_start(tmp_path):
    from safetensors.torch import save_file

    longer = UnrolledNetwork(dataclasses.replace(SIZES, rounds=4))
    save_file(longer.state_dict(), tmp_path / "weights.safetensors")
    shorter = UnrolledNetwork(SIZES)
    begin_from(shorter, tmp_path / "weights.safetensors")
    inputs = (
        torch.randn(1, 8, 8, dtype=torch.complex64),
        lambda images: images,
        torch.tensor([0.1]),
        torch.tensor([1.0]),
    )
    with torch.no_grad():
        torch.testing.assert_close(shorter(*inputs)[0][-1], longer(*inputs, rounds=2)[0][-1])
    with pytest.raises(TrainingConfigError, match="another shape"):
        begin_from(UnrolledNetwork(dataclasses.replace(SIZES, channels=(8, 16))), tmp_path / "weights.safetensors")
    with pytest.raises(TrainingConfigError, match="cannot be read"):
        begin_from(shorter, tmp_path / "nothing.safetensors")


def test_command_trains_and_leaves_a_model(tmp_path, volumes):
    (tmp_path / "tiny.toml").write_text(TOML)
    arguments = [str(tmp_path / "tiny.toml"), "--data", str(volumes), "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "step 4/4" in result.output
    model = tmp_path / "run" / "models" / "tiny"
    manifest = Manifest.read(model)
    assert manifest.architecture["family"] == "unrolled"
    assert manifest.fits_samples
    lineage = manifest.lineage
    assert lineage.hyperparameters["steps"] == json.loads(json.dumps(lineage.hyperparameters))["steps"] > 0
    assert {"architecture", "learning_rate", "seed", "steps_done", "minutes"} <= set(lineage.hyperparameters)
    assert not Path(lineage.hyperparameters["start"]).is_absolute()
    assert all({"name", "split", "licence"} <= set(source) for source in lineage.data)
    assert sum(tensor.numel() for tensor in load_file(model / "weights.safetensors").values()) == manifest.parameters
    card = (model / "card.md").read_text()
    assert "4 steps" in card
    assert all((source.name in card) == (volumes / f"{source.name}.json").exists() for source in SOURCES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("steps = 0\n", "steps"),
        ("colour = 1\n", "colour"),
        ("smallest = 80\n", "smallest"),
        ("start = 'nothing.safetensors'\n", "start"),
        ("]", "cannot be read"),
    ],
)
def test_bad_configurations_end_with_the_exit_code_of_bad_input(tmp_path, volumes, change, message):
    key = change.split(" = ")[0]
    lines = [line for line in TOML.splitlines() if not line.startswith(f"{key} =")]
    (tmp_path / "bad.toml").write_text(change + "\n".join(lines))
    result = CliRunner().invoke(
        train, [str(tmp_path / "bad.toml"), "--data", str(volumes), "-o", str(tmp_path / "run")]
    )
    assert result.exit_code == 3
    assert message in result.output


def test_without_volumes_the_command_says_how_to_get_them(tmp_path):
    (tmp_path / "tiny.toml").write_text(TOML)
    result = CliRunner().invoke(train, [str(tmp_path / "tiny.toml"), "--data", str(tmp_path / "none")])
    assert result.exit_code == 3
    assert "make training-data" in result.output


def test_a_run_stops_when_its_time_is_over_and_keeps_the_best_weights(tmp_path, volumes):
    run = trainer(volumes, tmp_path / "run")
    run.run(lambda progress: None, seconds=1e-6)
    assert run.step == 1
    again = trainer(volumes, tmp_path / "run")
    assert again.step == 1
    again.run(lambda progress: None)
    assert load_file(tmp_path / "run" / "best.safetensors").keys() == again.average.state_dict().keys()


def test_command_stops_and_goes_on(tmp_path, volumes):
    (tmp_path / "tiny.toml").write_text(TOML)
    arguments = [str(tmp_path / "tiny.toml"), "--data", str(volumes), "-o", str(tmp_path / "run")]
    result = CliRunner().invoke(train, [*arguments, "--minutes", "0.00001"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "stopped at step 1 of 4" in result.output
    assert not (tmp_path / "run" / "models").exists()
    assert CliRunner().invoke(train, arguments, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "run" / "models" / "tiny").is_dir()


def test_the_best_weights_of_a_run_become_a_model_in_bfloat16(tmp_path, volumes):
    (tmp_path / "tiny.toml").write_text(TOML.replace("float32", "bfloat16"))
    arguments = [str(tmp_path / "tiny.toml"), "--data", str(volumes), "-o", str(tmp_path / "run")]
    early = CliRunner().invoke(train, [*arguments, "--best"])
    assert early.exit_code == 3
    assert "no evaluated weights" in early.output
    assert CliRunner().invoke(train, arguments, catch_exceptions=False).exit_code == 0
    result = CliRunner().invoke(train, [*arguments, "--best"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    model = tmp_path / "run" / "models" / "tiny"
    stored, best = load_file(model / "weights.safetensors"), load_file(tmp_path / "run" / "best.safetensors")
    assert all(tensor.dtype == torch.bfloat16 for tensor in stored.values())
    assert all(torch.equal(stored[name], tensor.bfloat16()) for name, tensor in best.items())


def test_the_loss_inside_the_object_hardly_sees_the_background():
    magnitudes = torch.zeros(1, 64, 64)
    magnitudes[:, 16:48, 16:48] = 1
    truth = magnitudes.to(torch.complex64)
    outside, inside = truth.clone(), truth.clone()
    outside[:, :8] += 0.1
    inside[:, 20:28] += 0.1
    values = {
        (place, only): float(loss([image], [], truth, magnitudes, 0.0, inside=only))
        for place, image in (("outside", outside), ("inside", inside))
        for only in (False, True)
    }
    assert values["outside", True] < 0.35 * values["outside", False]
    assert values["inside", True] > 3 * values["outside", True]


def test_scores_are_means_of_the_figures_over_the_picture_and_in_the_object():
    generator = np.random.default_rng(0)
    references, images = [], []
    for _ in range(2):
        reference = np.zeros((64, 64), dtype=np.float32)
        reference[16:48, 16:48] = 1 + 0.2 * generator.random((32, 32), dtype=np.float32)
        references.append(torch.from_numpy(reference))
        images.append(torch.from_numpy(reference + np.float32(0.1) * generator.random((64, 64), dtype=np.float32)))
    pairs = [(one[None].numpy(), other[None].numpy()) for one, other in zip(references, images, strict=True)]
    figures = score(references, images)
    assert figures.ssim == pytest.approx(np.mean([metrics.ssim(*pair, square=False) for pair in pairs]))
    assert figures.psnr == pytest.approx(np.mean([metrics.psnr(*pair, square=False) for pair in pairs]))
    assert figures.ssim_object == pytest.approx(np.mean([inside_object(*pair).ssim for pair in pairs]))
    assert figures.psnr_object == pytest.approx(np.mean([inside_object(*pair).psnr for pair in pairs]))


def test_added_parts_of_a_network_begin_by_doing_nothing(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(0)
    plain = UnrolledNetwork(SIZES)
    save_file(plain.state_dict(), tmp_path / "weights.safetensors")
    added = UnrolledNetwork(dataclasses.replace(SIZES, context=8, trust=True, resolution=True, spectral=True))
    begin_from(added, tmp_path / "weights.safetensors")
    inputs = (
        torch.randn(1, 16, 16, dtype=torch.complex64),
        lambda images: 0.5 * images,
        torch.tensor([0.1]),
        torch.tensor([0.5]),
    )
    with torch.no_grad():
        torch.testing.assert_close(added(*inputs)[0][-1], plain(*inputs)[0][-1])


def test_deviations_are_learnt_while_the_images_stay_as_they_are(tmp_path, volumes):
    begun = trainer(volumes, tmp_path / "images")
    save_file(weights_of(begun.network), tmp_path / "start.safetensors")
    config = dataclasses.replace(
        CONFIG,
        architecture=dataclasses.replace(SIZES, deviation=8),
        start=str(tmp_path / "start.safetensors"),
        origin="a test",
        only="deviation",
        steps=60,
        evaluate_every=60,
        rounds=(),
        learning_rate=1e-2,
    )
    run = trainer(volumes, tmp_path / "deviations", config)
    run.run(lambda progress: None)
    after = run.average.state_dict()
    for name, tensor in begun.network.state_dict().items():
        assert torch.equal(after[name], tensor), name
    assert (tmp_path / "deviations" / "best.safetensors").exists()
    ratios = []
    for example in evaluation_examples(volumes, config):
        with torch.inference_mode():
            made = run.average(
                example.data,
                example.encoding(torch.device("cpu")).gram,
                example.noise,
                example.fractions,
                deviations=True,
            )
        inside = example.magnitudes > 0.2
        errors = (made.images[-1].abs() - example.magnitudes)[inside]
        ratios.append(float(errors.square().mean() / made.deviations[inside].square().mean()))
    # At the start deviations are 0.018 everywhere, a tenth of the error of a network that has learnt nothing.
    assert 0.2 < np.median(ratios) < 5


@pytest.mark.parametrize(
    ("change", "message"), [({"only": "all"}, "only must be"), ({"only": "deviation"}, "start must name")]
)
def test_only_deviations_can_be_trained_alone_and_only_to_given_weights(change, message):
    with pytest.raises(TrainingConfigError, match=message):
        dataclasses.replace(CONFIG, **change)
