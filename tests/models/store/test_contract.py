"""What data a model was made for: stated, kept through JSON, and compared with a sampling."""

import dataclasses
import json

import pytest

from recond_models.contract import Contract
from recond_models.sampling import Sampling

SAMPLING = Sampling(8, 256, 240, 4.0, "uniform", 4, (256, 24))
CONTRACT = Contract(
    ("uniform", "irregular"),
    (2.0, 8.0),
    (4, 16),
    (96, 384),
    (96, 384),
    (8, 8),
    requires_calibration=True,
    anatomy="brain",
    contrast="T1",
)


def test_data_that_the_model_was_made_for():
    assert CONTRACT.problems(SAMPLING) == []
    assert Contract().problems(dataclasses.replace(SAMPLING, coils=1, calibration=(0, 0), acceleration=40)) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"pattern": "two-dimensional"}, "the sampling is two-dimensional, it is made for uniform and irregular"),
        ({"acceleration": 10.04}, "the acceleration is 10.04, it is made for 2 to 8"),
        ({"acceleration": 1.5}, "the acceleration is 1.5, it is made for 2 to 8"),
        ({"coils": 32}, "the number of coils is 32, it is made for 4 to 16"),
        ({"rows": 640}, "the number of rows is 640, it is made for 96 to 384"),
        ({"columns": 64}, "the number of columns is 64, it is made for 96 to 384"),
        ({"calibration": (256, 7)}, "the calibration region is 256 x 7, it is made for 8 x 8 or more"),
        ({"calibration": (0, 0)}, "there is no calibration region, it is made for 8 x 8 or more"),
    ],
)
def test_each_way_out_of_the_contract_is_named(changes, problem):
    assert CONTRACT.problems(dataclasses.replace(SAMPLING, **changes)) == [problem]


def test_limits_belong_to_the_range_and_rounding_does_not_matter():
    for acceleration in (2.0, 8.0, 240 / 29.99):
        assert CONTRACT.problems(dataclasses.replace(SAMPLING, acceleration=acceleration)) == []


def test_a_single_coil_has_no_sensitivities():
    problems = CONTRACT.problems(dataclasses.replace(SAMPLING, coils=1))
    assert problems == ["the number of coils is 1, it is made for 4 to 16", "there is a single coil"]


@pytest.mark.parametrize("contract", [CONTRACT, Contract()])
def test_json_keeps_everything(contract):
    assert Contract.from_json(json.loads(json.dumps(contract.to_json()))) == contract
    assert hash(contract) == hash(Contract.from_json(contract.to_json()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"acceleration": [8, 2]}, "acceleration"),
        ({"acceleration": [0, 2]}, "acceleration"),
        ({"acceleration": [2, float("inf")]}, "acceleration"),
        ({"acceleration": [2]}, "no range"),
        ({"acceleration": "2:4"}, "no range"),
        ({"patterns": ["spiral"]}, "'spiral'"),
        ({"calibration": [-1, 8]}, "negative"),
        ({"calibration": 8}, "type"),
        ({"requires_calibration": 1}, "1 is no bool"),
        ({"anatomy": None}, "None is no str"),
        ({"colour": "red"}, "exactly the fields"),
    ],
)
def test_contracts_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        Contract.from_json(CONTRACT.to_json() | changes)
