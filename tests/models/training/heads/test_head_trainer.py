"""The trainer of heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from recond_models.heads.network import SliceUNet
from recond_models.training.commands import train
from recond_models.training.config import TrainingConfigError
from recond_models.training.heads.config import HeadTrainingConfig, names_head
from recond_models.training.heads.losses import DiceCounter, dice_and_cross_entropy
from recond_models.training.heads.samples import IGNORED, Sample
from recond_models.training.heads.trainer import BEST, HeadTrainer, begin_from, weights_of

CONFIG = HeadTrainingConfig(
    head="tissue",
    name="tiny",
    description="A head for tests.",
    architecture={"widths": [4, 6], "fine": 4},
    steps=6,
    batch=2,
    size=(16, 16),
    evaluate_every=3,
    evaluation_samples=2,
    checkpoint_every=2,
    precision="float32",
)


class Squares:
    """Samples whose class is how bright they are."""

    classes = 3

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        self.drawn = 0

    def draw(self, generator: np.random.Generator) -> Sample:
        self.drawn += 1
        target = np.kron(generator.integers(0, 3, (4, 4)), np.ones((4, 4))).astype(np.uint8)
        image = np.repeat(target[None], 5, axis=0).astype(np.float32) / 2 + self.offset
        target[0] = IGNORED
        return Sample(image, target)


def _trainer(folder: Path, config: HeadTrainingConfig = CONFIG) -> HeadTrainer:
    return HeadTrainer(config, Squares(), Squares(), folder, "cpu")


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole, parts = _trainer(tmp_path / "whole"), _trainer(tmp_path / "parts")
    whole.run(lambda _: None)
    parts.run(lambda _: None, stop_after=4)
    resumed = _trainer(tmp_path / "parts")
    assert resumed.step == 4
    resumed.run(lambda _: None)

    for name, tensor in weights_of(whole.average).items():
        torch.testing.assert_close(weights_of(resumed.average)[name], tensor, rtol=0, atol=0)
    assert (tmp_path / "whole" / "figures.csv").read_text() == (tmp_path / "parts" / "figures.csv").read_text()


def test_it_learns(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, replace(CONFIG, steps=150, evaluate_every=150, learning_rate=1e-2, average=0.9))
    losses: list[float] = []

    trainer.run(lambda progress: losses.append(progress.loss))

    assert losses[-1] < 0.5 * losses[0]
    assert trainer.best is not None
    assert trainer.best[0] == 150
    assert trainer.best[1] > 0.9
    network = SliceUNet(classes=3, widths=(4, 6), fine=4)
    network.load_state_dict(load_file(tmp_path / BEST))


def test_easy_samples_come_first(tmp_path: Path) -> None:
    samples, easy = Squares(), Squares()
    trainer = HeadTrainer(replace(CONFIG, easy_steps=2), samples, Squares(), tmp_path, "cpu", easy)

    trainer.run(lambda _: None, stop_after=5)

    assert (easy.drawn, samples.drawn) == (4, 6)


def test_another_architecture_does_not_go_on_in_the_folder(tmp_path: Path) -> None:
    _trainer(tmp_path).run(lambda _: None, stop_after=1)

    with pytest.raises(TrainingConfigError, match="another architecture"):
        _trainer(tmp_path, replace(CONFIG, seed=2))


def test_weights_of_a_head_with_other_classes_are_a_beginning(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    trainer.run(lambda _: None)
    other = SliceUNet(classes=2, widths=(4, 6), fine=4)
    before = other.last.weight.clone()

    begin_from(other, tmp_path / BEST)

    torch.testing.assert_close(other.expand.weight, load_file(tmp_path / BEST)["expand.weight"])
    torch.testing.assert_close(other.last.weight, before)
    with pytest.raises(TrainingConfigError, match="another shape"):
        begin_from(SliceUNet(classes=2, widths=(8, 16), fine=8), tmp_path / BEST)
    with pytest.raises(TrainingConfigError, match="cannot be read"):
        begin_from(other, tmp_path / "nothing.safetensors")


def test_the_loss_is_dice_and_cross_entropy_of_known_pixels() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 4, 8, 8), torch.randint(0, 3, (2, 8, 8))  # class 3 is nowhere
    targets[:, :2] = IGNORED
    changed = logits.clone()
    changed[:, :, :2] = 9.0

    known = targets != IGNORED
    probable = torch.softmax(logits, dim=1)
    dice = [
        (2 * (probable[:, place] * (targets == place)).sum() + 1)
        / ((probable[:, place] * known).sum() + (targets == place).sum() + 1)
        for place in (1, 2)
    ]
    entropy = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED)
    assert dice_and_cross_entropy(logits, targets).item() == pytest.approx(float(entropy + 1 - sum(dice) / 2), rel=1e-5)
    assert dice_and_cross_entropy(changed, targets).item() == pytest.approx(
        dice_and_cross_entropy(logits, targets).item(), rel=1e-6
    )


def test_dice_is_counted_over_all_that_came() -> None:
    counter = DiceCounter(3)
    counter.add(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, IGNORED]))
    counter.add(torch.tensor([1]), torch.tensor([1]))

    scores = counter.scores()

    assert scores[:2] == [1.0, pytest.approx(4 / 5)]
    assert scores[2] == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('head = "tissue"', "missing fields"),
        ('head = "tissue"\nname = "x"\ndescription = "x"\ncolour = 1', "unknown fields colour"),
        ('head = "tissue"\nname = "x"\ndescription = "x"\nsize = [8, 8]', "size"),
        ('head = "tissue"\nname = "x"\ndescription = "x"\nbatch = 0', "batch"),
        ('head = "tissue"\nname = "x"\ndescription = "x"\nstart = "a"', "origin"),
        ('head = "elbow"\nname = "x"\ndescription = "x"', "head must be one of"),
        ('head = "tissue"\nname = "x"\ndescription = "x"', "no label maps"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "head.toml"
    config.write_text(text)

    result = CliRunner().invoke(train, [str(config), "--data", str(tmp_path), "-o", str(tmp_path / "run")])

    assert result.exit_code == 3
    assert message in result.output


def test_shipped_configurations_of_heads_can_be_read() -> None:
    folder = Path(train.callback.__code__.co_filename).parent / "configs"  # type: ignore[union-attr]
    heads = [path for path in folder.glob("*.toml") if names_head(path)]

    assert "head-tissue.toml" in {path.name for path in heads}
    for path in heads:
        config = HeadTrainingConfig.read(path)
        SliceUNet(classes=4, **config.architecture)
    assert not names_head(folder / "unrolled-brain.toml")
