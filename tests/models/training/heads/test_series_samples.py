import numpy as np
import pytest

from recond_models.heads.series_network import ARTEFACTS, OUTPUTS, SIDE
from recond_models.training.heads.config import HeadTrainingConfig
from recond_models.training.heads.others import draw_other
from recond_models.training.heads.samples import IGNORED
from recond_models.training.heads.series_samples import SeriesSamples, degraded
from recond_models.training.heads.series_trainer import SeriesTrainer
from recond_models.training.heads.signal_equations import TISSUES, signals

NAMES = list(OUTPUTS)


@pytest.fixture(scope="module")
def samples(map_head, measured_head) -> SeriesSamples:
    return SeriesSamples([map_head, measured_head], [np.random.default_rng(0).random((90, 70)).astype(np.float32)])


def test_samples_have_all_classes_and_no_answer_where_there_is_none(samples):
    drawn = [samples.draw(np.random.default_rng(seed)) for seed in range(150)]
    for sample in drawn:
        assert sample.image.shape == (SIDE, SIDE)
        assert np.isfinite(sample.image).all()
        classes = dict(zip(NAMES, sample.classes.tolist(), strict=True))
        for name, number in classes.items():
            assert number == IGNORED or number < len(OUTPUTS[name])
        if classes["anatomy"] in {1, 2}:
            assert classes["contrast"] == classes["plane"] == IGNORED
        if classes["failed reconstruction"] == 2:
            assert {number for name, number in classes.items() if name != "failed reconstruction"} == {IGNORED}
    table = np.stack([sample.classes for sample in drawn])
    for place, name in enumerate(NAMES):
        assert set(range(len(OUTPUTS[name]))) <= set(table[:, place].tolist()), name
    again = samples.draw(np.random.default_rng(7))
    assert np.array_equal(again.image, drawn[7].image)


def test_a_series_shows_one_head_in_one_plane(samples):
    images, contrast, plane = samples.draw_series(np.random.default_rng(4), 3)
    assert images.shape == (3, SIDE, SIDE)
    assert np.isfinite(images).all()
    assert contrast < len(OUTPUTS["contrast"])
    assert plane < len(OUTPUTS["plane"])
    assert not np.array_equal(images[0], images[1])
    again, *same = samples.draw_series(np.random.default_rng(4), 3)
    assert np.array_equal(again, images)
    assert same == [contrast, plane]


def test_grades_tell_what_was_done():
    rows, columns = np.indices((80, 70))
    image = (np.hypot(rows - 40, columns - 35) < 28).astype(np.float32)
    sums = {name: set() for name in ARTEFACTS}
    for seed in range(60):
        made, grades = degraded(np.random.default_rng(seed), image)
        assert set(grades) == set(ARTEFACTS)
        assert made.min() >= 0
        background = made[:8, :8].mean()
        if grades["noise"] == 2:
            assert background > 0.1
        elif not any(grades.values()):
            assert background < 0.1
        for name, grade in grades.items():
            sums[name].add(grade)
    assert all(found == {0, 1, 2} for found in sums.values())


def test_tissues_have_the_order_that_a_contrast_is_known_for():
    def mean(contrast):
        drawn = [signals(np.random.default_rng(seed), contrast) for seed in range(60)]
        return {tissue: float(np.mean([each[tissue] for each in drawn])) for tissue in TISSUES}

    levels = {contrast: mean(contrast) for contrast in ("t1", "t1post", "t2", "flair", "pd", "t2*")}
    assert levels["t1"]["fluid"] < levels["t1"]["grey"] < 1 < levels["t1"]["fat"]
    assert levels["t2"]["fluid"] > levels["t2"]["grey"] > 1
    assert levels["flair"]["fluid"] < 0.5
    assert levels["flair"]["grey"] > 1
    assert 1 < levels["pd"]["grey"] < 1.5
    assert levels["t1post"]["blood"] > 1.2 > levels["t1"]["blood"]
    assert levels["t2*"]["blood"] < 1


def test_other_things_differ_from_each_other():
    drawn = [draw_other(np.random.default_rng(seed), (96, 96)) for seed in range(30)]
    assert all(image.shape == (96, 96) and image.min() >= 0 and image.max() > 0 for image in drawn)
    likeness = np.corrcoef([image.ravel() for image in drawn])
    assert np.median(np.abs(likeness[np.triu_indices(30, 1)])) < 0.6


def test_training_goes_on_where_it_stopped(samples, tmp_path):
    config = HeadTrainingConfig(
        "series", "series", "for tests", architecture={"widths": [4, 6]}, steps=4, batch=4, evaluate_every=2,
        evaluation_samples=6, checkpoint_every=2, precision="float32",
    )  # fmt: skip
    whole = SeriesTrainer(config, samples, samples, tmp_path / "whole", "cpu")
    whole.run(lambda _: None)
    for _ in range(2):
        trainer = SeriesTrainer(config, samples, samples, tmp_path / "parts", "cpu")
        trainer.run(lambda _: None, stop_after=2)
    assert trainer.step == 4
    for name, tensor in whole.network.state_dict().items():
        assert np.allclose(tensor, trainer.network.state_dict()[name], atol=1e-6), name
    assert (tmp_path / "parts" / "best.safetensors").exists()
    assert trainer.best is not None
