"""Packed batches as tensors: what one side writes the other reads, by shared memory or not. Without a Triton server."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recond_testing import random_kspace
from tritonclient.grpc import service_pb2 as pb

from recond_models import loading
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_service.backends import FrameInput
from recond_service.backends.triton import interface
from recond_service.backends.triton.executor import Executor, Failure, unpack
from recond_service.backends.triton.packing import Packing, outcome_of, request_for
from recond_service.backends.triton.regions import Region
from recond_service.processes import FrameLayout
from recond_service.types import DefectError, Frame, FrameIndex, UnsupportedDataError

PARAMETERS = {
    interface.MODEL: "cg-sense",
    interface.VERSION: "1",
    interface.WEIGHTS: "",
    interface.ORIGIN: "built-in",
    interface.INTERFACE_KEY: interface.INTERFACE,
    interface.THREADS: "1",
}
TORCH = {"FP32": torch.float32, "INT32": torch.int32, "UINT8": torch.uint8}


def frame(coils: int, rows: int, columns: int, calibration: str = "none", crop: int = 0, seed: int = 0) -> Frame:
    kspace = random_kspace(coils, rows, columns, seed=seed)
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.6
    mask[rows // 2 - 4 : rows // 2 + 4, columns // 2 - 4 : columns // 2 + 4] = True
    return Frame(
        index=FrameIndex(),
        kspace=kspace * mask,
        mask=mask,
        calibration_extent=(8, 8) if calibration == "centre" else (0, 0),
        scale=1.0,
        image_shape=(rows - crop, columns + crop),
        calibration=random_kspace(coils, 12, 10, seed=seed + 1) if calibration == "apart" else None,
    )


def inputs(frames: list[Frame]) -> list[FrameInput]:
    return [FrameInput(FrameLayout.of(each), FrameLayout.of(each).store(each)) for each in frames]


def received(request: bytes, region: Region | None) -> tuple[pb.ModelInferRequest, dict[str, torch.Tensor]]:
    """Return what a Triton server hands to the model."""
    message = pb.ModelInferRequest.FromString(request)
    raw = iter(message.raw_input_contents)
    tensors = {}
    for tensor in message.inputs:
        if "shared_memory_region" in tensor.parameters:
            assert region is not None
            assert tensor.parameters["shared_memory_region"].string_param == region.name
            offset = tensor.parameters["shared_memory_offset"].int64_param
            data = region.memory[offset : offset + tensor.parameters["shared_memory_byte_size"].int64_param]
        else:
            data = next(raw)
        tensors[tensor.name] = torch.frombuffer(bytearray(data), dtype=TORCH[tensor.datatype]).reshape(*tensor.shape)
        assert tensor.datatype == interface.INPUTS[tensor.name][0]
    assert next(raw, None) is None
    return message, tensors


def answer(message: pb.ModelInferRequest, outputs: dict[str, torch.Tensor], region: Region | None) -> bytes:
    """Return what a Triton server makes of the outputs of a model."""
    response = pb.ModelInferResponse(model_name=message.model_name)
    for wanted in message.outputs:
        values = outputs[wanted.name]
        response.outputs.add(name=wanted.name, datatype=interface.OUTPUTS[wanted.name][0], shape=values.shape)
        data = values.numpy().tobytes()
        if "shared_memory_region" in wanted.parameters:
            assert region is not None
            offset = wanted.parameters["shared_memory_offset"].int64_param
            assert len(data) == wanted.parameters["shared_memory_byte_size"].int64_param
            region.memory[offset : offset + len(data)] = data
            data = b""
        response.raw_output_contents.append(data)
    return response.SerializeToString()


@pytest.fixture(params=["region", "inline"])
def region(request: pytest.FixtureRequest) -> Iterator[Region | None]:
    if request.param == "inline":
        yield None
        return
    found = Region(1 << 20)
    yield found
    found.close()


CASES = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from(["none", "centre", "apart"]), st.sampled_from([0, 3])),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(cases=CASES, rows=st.integers(9, 20), columns=st.integers(9, 20), by_region=st.booleans())
def test_a_batch_arrives_as_it_was_packed(cases, rows, columns, by_region):
    frames = [frame(coils, rows, columns, how, crop, seed) for seed, (coils, how, crop) in enumerate(cases)]
    given_frames = inputs(frames)
    packing = Packing.of(given_frames)
    region = Region(packing.size) if by_region else None
    _, tensors = received(request_for("recond-rss", {}, given_frames, packing, region), region)
    batch, layouts = unpack(tensors)
    for found, sent in zip(layouts, given_frames, strict=True):
        assert (found.image_shape, found.window, found.exponent, found.complex_image) == (
            *(sent.layout.image_shape, sent.layout.window, sent.layout.exponent, sent.layout.complex_image),
        )
    arrays = [each.layout.arrays(each.block) for each in given_frames]
    wanted = PackedBatch.pack(
        [kspace for kspace, _, _ in arrays],
        [mask for _, mask, _ in arrays],
        [calibration for _, _, calibration in arrays],
        [each.layout.crop for each in given_frames],
    )
    assert torch.equal(batch.kspace, wanted.kspace)
    assert torch.equal(batch.coil_offsets, wanted.coil_offsets)
    assert torch.equal(batch.masks, wanted.masks)
    assert batch.crops == wanted.crops
    for found, block in zip(batch.calibrations, wanted.calibrations, strict=True):
        assert (found is None) == (block is None)
        assert found is None or torch.equal(found, block)
    if region is not None:
        region.close()


def test_images_come_back_with_all_that_the_model_says(region, tmp_path):
    given_frames = inputs([frame(4, 40, 36, "apart"), frame(3, 40, 36, "centre", seed=5)])
    packing = Packing.of(given_frames)
    message, tensors = received(request_for("recond-cg-sense", {}, given_frames, packing, region), region)
    executor = Executor(PARAMETERS, tmp_path, "cpu")
    outputs = executor.execute(tensors, {}, lambda: False)
    assert isinstance(outputs, dict)
    outcome = outcome_of(answer(message, outputs, region), given_frames, packing, region)
    wanted = loading.load("cg-sense").reconstruct(unpack(tensors)[0])
    for number, computed in enumerate(outcome.frames):
        pixels = computed.image.array(np.float32, (40, 36))
        np.testing.assert_array_equal(pixels, magnitudes(wanted)[number].numpy())
    np.testing.assert_allclose([computed.residual for computed in outcome.frames], wanted.residuals.numpy())
    assert outcome.seconds > 0
    expected = list(wanted.notes or ((), ()))
    assert [computed.notes for computed in outcome.frames] == expected


def test_a_model_that_does_not_fit_samples_has_no_residual(region, tmp_path):
    given_frames = inputs([frame(2, 16, 16)])
    packing = Packing.of(given_frames)
    message, tensors = received(request_for("recond-rss", {}, given_frames, packing, region), region)
    outputs = Executor(PARAMETERS | {interface.MODEL: "rss"}, tmp_path, "cpu").execute(tensors, {}, lambda: False)
    assert math.isnan(outputs[interface.RESIDUALS])
    outcome = outcome_of(answer(message, outputs, region), given_frames, packing, region)
    assert outcome.frames[0].residual is None


def test_standard_deviations_follow_their_image(region, tmp_path):
    layouts = [
        FrameLayout.of(each, uncertainty=number == 1) for number, each in enumerate([frame(4, 40, 36, "centre")] * 2)
    ]
    given_frames = [FrameInput(layout, layout.store(frame(4, 40, 36, "centre"))) for layout in layouts]
    packing = Packing.of(given_frames)
    message, tensors = received(request_for("recond-cg-sense", {}, given_frames, packing, region), region)
    batch, found = unpack(tensors)
    assert batch.deviations
    assert [layout.uncertainty for layout in found] == [False, True]
    outputs = Executor(PARAMETERS, tmp_path, "cpu").execute(tensors, {}, lambda: False)
    plain, uncertain = outcome_of(answer(message, outputs, region), given_frames, packing, region).frames
    pixels = uncertain.image.array(np.float32, (2, 40, 36))
    np.testing.assert_array_equal(pixels[0], plain.image.array(np.float32, (40, 36)))
    assert np.isnan(pixels[1]).all()  # cg-sense does not tell


def test_an_answer_that_is_none_is_a_defect_that_says_what_to_do():
    given_frames = inputs([frame(2, 16, 16)])
    empty = pb.ModelInferResponse(model_name="recond-rss").SerializeToString()
    with pytest.raises(DefectError, match="recond triton export"):
        outcome_of(empty, given_frames, Packing.of(given_frames), None)


def tensors_of(frames: list[Frame]) -> dict[str, torch.Tensor]:
    given_frames = inputs(frames)
    return received(request_for("recond-cg-sense", {}, given_frames, Packing.of(given_frames), None), None)[1]


def failure_of(outcome: dict[str, torch.Tensor] | Failure):
    assert isinstance(outcome, Failure)
    return interface.read_error(f"in some words of Triton: {outcome.message}")


def test_what_a_model_refuses_is_an_error_that_the_other_side_reads(tmp_path):
    executor = Executor(PARAMETERS, tmp_path, "cpu")
    error = failure_of(executor.execute(tensors_of([frame(1, 16, 16)]), {}, lambda: False))
    assert isinstance(error, UnsupportedDataError)
    assert error.reason == "MODEL_UNSUITABLE"


def test_a_request_that_was_planned_with_other_weights_is_refused(tmp_path):
    executor = Executor(PARAMETERS, tmp_path, "cpu")
    planned = {interface.VERSION: "1", interface.WEIGHTS: "0" * 64}
    error = failure_of(executor.execute(tensors_of([frame(4, 16, 16, "centre")]), planned, lambda: False))
    assert isinstance(error, UnsupportedDataError)
    assert error.reason == "MODEL_NOT_ON_SERVER"


def test_a_cancelled_request_computes_nothing(tmp_path):
    executor = Executor(PARAMETERS, tmp_path, "cpu")
    error = failure_of(executor.execute(tensors_of([frame(4, 16, 16, "centre")]), {}, lambda: True))
    assert error.reason == "WITHDRAWN"


def test_a_request_that_is_cancelled_meanwhile_is_given_up_between_two_iterations(tmp_path):
    executor = Executor(PARAMETERS, tmp_path, "cpu")
    answers = iter([False, False])
    cancelled = executor.execute(tensors_of([frame(8, 160, 160, "centre")] * 6), {}, lambda: next(answers, True))
    assert failure_of(cancelled).reason == "WITHDRAWN"


@pytest.mark.parametrize(
    "change",
    [
        {interface.COILS: torch.tensor([3, 3], dtype=torch.int32)},
        {interface.COILS: torch.tensor([0, 4], dtype=torch.int32)},
        {interface.CALIBRATION_SHAPES: torch.tensor([[8, 8, 1], [0, 0, 0]], dtype=torch.int32)},
        {interface.CALIBRATION_SHAPES: torch.tensor([[80, 8, 0], [0, 0, 0]], dtype=torch.int32)},
        {interface.CROPS: torch.tensor([[80, 8], [0, 0]], dtype=torch.int32)},
        {interface.MASKS: torch.ones((1, 16, 16), dtype=torch.uint8)},
    ],
)
def test_sizes_that_do_not_belong_together_fail_the_request_alone(tmp_path, change):
    executor = Executor(PARAMETERS, tmp_path, "cpu")
    tensors = tensors_of([frame(2, 16, 16, "centre"), frame(2, 16, 16, "centre")])
    error = failure_of(executor.execute(tensors | change, {}, lambda: False))
    assert isinstance(error, DefectError)
    assert error.reason == "MODEL_FAILED"
    assert isinstance(executor.execute(tensors, {}, lambda: False), dict)


@pytest.mark.parametrize("key", [interface.INTERFACE_KEY, interface.VERSION])
def test_a_repository_for_other_code_is_refused_when_it_is_loaded(tmp_path, key):
    with pytest.raises((RuntimeError, LookupError)):
        Executor(PARAMETERS | {key: "99"}, tmp_path, "cpu")


def test_errors_cross_in_few_bytes_and_without_loss():
    error = UnsupportedDataError("ä" * 5000, reason="R", field="f", retry_after=2.5)
    text = interface.write_error(error)
    found = interface.read_error(text)
    assert (found.status, found.reason, found.field, found.retry_after) == ("FAILED_PRECONDITION", "R", "f", 2.5)
    assert len(text.encode()) < 8000
    assert isinstance(interface.read_error(interface.write_too_large("no room")), interface.DeviceMemoryError)
    assert interface.read_error("Stub process 'x' is not healthy.") is None
    assert isinstance(interface.read_error("recond-error:{"), DefectError)
