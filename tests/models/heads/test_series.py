import numpy as np
import pytest
import torch

from recond_models.heads.framing import NotFiniteError, ShapeError
from recond_models.heads.series import UNKNOWN, SeriesCalibration, SeriesClassifier
from recond_models.heads.series_network import OUTPUTS, SIDE, SeriesNetwork, prepare_slice


@pytest.fixture(scope="module")
def network() -> SeriesNetwork:
    torch.manual_seed(3)
    return SeriesNetwork(widths=(4, 6, 8)).eval()


def test_every_output_has_a_score_for_each_class(network):
    scores = network(torch.rand(2, 1, SIDE, SIDE))
    assert {name: tuple(values.shape) for name, values in scores.items()} == {
        name: (2, len(classes)) for name, classes in OUTPUTS.items()
    }
    assert SeriesNetwork(**network.architecture()).widths == network.widths


def test_the_network_that_ships_is_small():
    assert sum(parameter.numel() for parameter in SeriesNetwork().parameters()) <= 200_000


def noise(count: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((count, 1, SIDE, SIDE), dtype=np.float32))


def test_what_is_stranger_than_heads_counts_as_other():
    network = answering(0)
    with torch.no_grad():
        network.learn_heads(network.pooled(noise(40, 0)), network.pooled(noise(10, 1)))
    assert network.strangeness(network.pooled(noise(40, 2))).mean().item() == pytest.approx(1, abs=0.3)
    assert torch.softmax(network(noise(1, 3))["anatomy"], dim=1)[0, 0] > 0.9
    stripes = torch.zeros(1, 1, SIDE, SIDE)
    stripes[..., ::2] = 3.0
    assert network(stripes)["anatomy"].argmax() == 1
    blurred = {name: scores.clone() for name, scores in network(stripes).items() if name != "anatomy"}
    assert all(torch.equal(scores, network(stripes)[name]) for name, scores in blurred.items())
    with torch.no_grad():  # severe motion explains it
        place = list(OUTPUTS).index("motion")
        network.classify.bias[sum(len(classes) for classes in list(OUTPUTS.values())[:place]) + 2] = 20
    assert network(stripes)["anatomy"].argmax() == 0


def test_weights_that_know_nothing_of_heads_can_be_loaded():
    network = answering(0)
    old = {name: values for name, values in network.state_dict().items() if not name.startswith("heads_")}
    other = SeriesNetwork(widths=(4, 6))
    other.load_state_dict(old, strict=True)
    assert torch.softmax(other.eval()(noise(1, 0))["anatomy"], dim=1)[0, 0] > 0.9


def test_heads_are_learned_from_enough_slices():
    with pytest.raises(ValueError, match="12"):
        answering(0).learn_heads(torch.rand(12, 12), torch.rand(3, 12))


def test_a_slice_is_scaled_by_its_own_brightness_and_put_in_the_middle():
    image = np.zeros((100, 50))
    image[20:80, 10:40] = 3e9
    prepared = prepare_slice(image)
    assert prepared.shape == (SIDE, SIDE)
    # 50 of 100 columns: the outer quarters are empty.
    assert not prepared[:, : SIDE // 4].any()
    assert prepared[SIDE // 2, SIDE // 2] == pytest.approx(1, abs=0.05)
    assert not prepare_slice(np.zeros((5, 7))).any()
    with pytest.raises(ShapeError):
        prepare_slice(np.zeros((3, 5, 7)))
    with pytest.raises(NotFiniteError):
        prepare_slice(np.full((4, 4), np.nan))


def test_slices_of_any_size_are_averaged(network):
    generator = np.random.default_rng(0)
    slices = [generator.random((40, 60)), generator.random((200, 30))]
    classifier = SeriesClassifier(network)
    each = classifier.probabilities(slices)
    answers = classifier(slices)
    assert list(answers) == list(OUTPUTS)
    mean = each["noise"].mean(axis=0)
    assert list(answers["noise"].probabilities.values()) == pytest.approx(mean.tolist(), abs=1e-6)
    for name, answer in answers.items():
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert answer.probability == max(answer.probabilities.values())
        assert answer.label in {*OUTPUTS[name], UNKNOWN}


def answering(anatomy: int) -> SeriesNetwork:
    """A network that is sure of one anatomy, of the first contrast, plane and grades."""
    network = SeriesNetwork(widths=(4, 6)).eval()
    with torch.no_grad():
        network.classify.weight.zero_()
        network.classify.bias.zero_()
        place = 0
        for name, classes in OUTPUTS.items():
            network.classify.bias[place + (anatomy if name == "anatomy" else 0)] = 8
            place += len(classes)
    return network


def test_contrast_and_plane_are_unknown_where_there_is_no_head():
    image = [np.random.default_rng(0).random((32, 32))]
    head = SeriesClassifier(answering(0))(image)
    assert (head["contrast"].label, head["plane"].label) == ("T1", "axial")
    other = SeriesClassifier(answering(1))(image)
    assert (other["anatomy"].label, other["contrast"].label, other["plane"].label) == ("other", UNKNOWN, UNKNOWN)


def test_an_answer_that_is_not_sure_enough_is_unknown(network):
    image = [np.random.default_rng(0).random((32, 32))]
    strict = SeriesCalibration(thresholds=dict.fromkeys(OUTPUTS, 1.0))
    assert {answer.label for answer in SeriesClassifier(network, strict)(image).values()} == {UNKNOWN}
    # A high temperature takes certainty away.
    warm = SeriesClassifier(answering(0), SeriesCalibration({"contrast": 100.0}))(image)
    assert warm["contrast"].label == UNKNOWN
    assert warm["plane"].label == "axial"
    with pytest.raises(ValueError, match="colour"):
        SeriesCalibration({"colour": 1.0})


def test_a_series_without_slices_is_refused(network):
    with pytest.raises(ValueError, match="slice"):
        SeriesClassifier(network)([])
