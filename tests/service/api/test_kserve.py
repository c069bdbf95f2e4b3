"""The KServe v2 facade, spoken to with tritonclient and with bare messages."""

import asyncio
import json
from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from local_front_end import LocalFrontEnd, local_front_end
from recond_testing import Refusal, random_kspace, refusal, rss_of
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as pb_grpc
from waiting import eventually_async

from recond_models import registry, selection
from recond_models.sampling import Sampling
from recond_models.simulate.scan import ScanSettings, simulate
from recond_service.conditioning.sampling import calibration_extent
from recond_service.config import Settings
from recond_service.types import DefectError, Priority

COILS, ROWS, COLUMNS = 4, 48, 40


class Facade:
    """A front end, and a stub to it."""

    def __init__(self, house: LocalFrontEnd) -> None:
        self.address, self.backend, self.services, self.idle = house.address, house.backend, house.services, house.idle
        self.stub = pb_grpc.GRPCInferenceServiceStub(house.channel)

    async def refused(self, request: pb.ModelInferRequest, seconds: float = 30) -> Refusal:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.stub.ModelInfer(request, timeout=seconds)
        return refusal(caught.value)


@pytest.fixture
async def facade() -> AsyncIterator[Facade]:
    async with local_front_end(Settings(max_requests=16, max_frame_bytes=1 << 20), sandboxes=False) as house:
        yield Facade(house)


def floats(kspace: np.ndarray) -> np.ndarray:
    """complex64 (coils, rows, columns) to float32 (1, coils, rows, columns, 2)."""
    return np.ascontiguousarray(kspace)[None].view(np.float32).reshape(1, *kspace.shape, 2)


def request_of(tensors: dict[str, np.ndarray], model: str = "rss", **parameters: int) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, id="7")
    for name, values in tensors.items():
        datatype = {"f": "FP32", "b": "BOOL", "d": "FP64"}[values.dtype.char.replace("?", "b")]
        request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        request.raw_input_contents.append(values.tobytes())
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    return request


def image_of(response: pb.ModelInferResponse) -> np.ndarray:
    by_name = {output.name: number for number, output in enumerate(response.outputs)}
    number = by_name["IMAGE"]
    return np.frombuffer(response.raw_output_contents[number], "<f4").reshape(tuple(response.outputs[number].shape))


def scan(coils: int = COILS) -> tuple[np.ndarray, np.ndarray]:
    """k-space (coils, rows, columns) of a phantom and its sampled lines (columns,)."""
    made = simulate(
        ScanSettings(
            *(coils, 1, 96, 80), acceleration=3, calibration_lines=20, phantom="shepp-logan", oversampling=1, seed=1
        )
    )
    kspace = made.kspace.reshape(-1, 96, 80).astype(np.complex64)
    return kspace * made.lines, np.asarray(made.lines).reshape(-1)[-80:].copy()


# --- what there is ---


async def test_tritonclient_finds_its_way_around(facade):
    async with triton_aio.InferenceServerClient(facade.address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("cg-sense")
        assert await client.is_model_ready("cg-sense", "1")
        assert await client.is_model_ready("auto")
        assert not await client.is_model_ready("cg-sense", "99")
        assert not await client.is_model_ready("nothing")
        assert (await client.get_server_metadata()).name == "recond"
        metadata = await client.get_model_metadata("cg-sense")
        assert (metadata.versions, metadata.inputs[0].name) == (["1"], "KSPACE")
        config = (await client.get_model_config("cg-sense")).config
        assert [(tensor.name, tensor.optional) for tensor in config.input] == [
            ("KSPACE", False),
            ("MASK", True),
            ("CALIBRATION", True),
        ]
        index = await client.get_model_repository_index()
        assert {(model.name, model.state) for model in index.models} >= {("rss", "READY"), ("unrolled-brain", "READY")}
        facade.backend.up = False
        assert not await client.is_server_ready()
        assert not await client.is_model_ready("cg-sense")
        index = await client.get_model_repository_index()
        assert {model.state for model in index.models} == {"UNAVAILABLE"}
        facade.backend.up = True


async def test_an_unknown_model_is_not_found(facade):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await facade.stub.ModelMetadata(pb.ModelMetadataRequest(name="nothing"))
    assert refusal(caught.value).reason == "NO_SUCH_MODEL"
    refused = await facade.refused(request_of({"KSPACE": floats(random_kspace(COILS, ROWS, COLUMNS))}, "nothing"))
    assert (refused.code, refused.field) == (grpc.StatusCode.NOT_FOUND, "model_name")


@pytest.mark.parametrize(
    ("method", "request_", "remedy"),
    [
        ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(), "shared memory"),
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="rss"), "recond models add"),
        ("ModelStatistics", pb.ModelStatisticsRequest(name="rss"), "/metrics"),
    ],
)
async def test_what_is_not_there_says_what_to_do(facade, method, request_, remedy):
    with pytest.raises(grpc.aio.AioRpcError, match=remedy) as caught:
        await getattr(facade.stub, method)(request_)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_streams_are_refused(facade):
    with pytest.raises(grpc.aio.AioRpcError, match="one frame a ModelInfer") as caught:
        async for _ in facade.stub.ModelStreamInfer(iter([pb.ModelInferRequest(model_name="rss")])):
            pass
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


# --- frames ---


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e12])
async def test_the_image_has_the_units_of_the_samples(facade, scale):
    kspace = (random_kspace(COILS, ROWS, COLUMNS) * np.float32(scale)).astype(np.complex64)
    async with triton_aio.InferenceServerClient(facade.address) as client:
        tensor = triton.InferInput("KSPACE", (1, COILS, ROWS, COLUMNS, 2), "FP32")
        tensor.set_data_from_numpy(floats(kspace))
        result = await client.infer("rss", [tensor], request_id="9")
    image = result.as_numpy("IMAGE")
    assert image.shape == (1, ROWS, COLUMNS)
    np.testing.assert_allclose(image, rss_of(kspace[None]), rtol=1e-4)
    assert np.isnan(result.as_numpy("RESIDUAL")).all()
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("rss", "1", "9")
    assert answer.parameters["compute_seconds"].double_param > 0


async def test_masks_calibration_and_axes_come_in_all_forms(facade):
    kspace, lines = scan()
    plane = np.broadcast_to(lines, kspace.shape[1:])
    whole = floats(kspace)
    wanted = image_of(await facade.stub.ModelInfer(request_of({"KSPACE": whole}, "l1-wavelet")))
    forms = (
        {"KSPACE": whole, "MASK": lines[None]},
        {"KSPACE": whole[0], "MASK": lines},
        {"KSPACE": whole, "MASK": np.ascontiguousarray(plane[None])},
        {"KSPACE": whole[0], "MASK": np.ascontiguousarray(plane)},
    )
    for tensors in forms:
        np.testing.assert_array_equal(image_of(await facade.stub.ModelInfer(request_of(tensors, "l1-wavelet"))), wanted)
    block = kspace[:, 96 // 2 - 12 : 96 // 2 + 12, 80 // 2 - 10 : 80 // 2 + 10] * np.float32(1e6)
    apart = await facade.stub.ModelInfer(request_of({"KSPACE": whole, "CALIBRATION": floats(block)}, "l1-wavelet"))
    image = image_of(apart)
    assert np.linalg.norm(image - wanted) < 0.05 * np.linalg.norm(wanted)
    assert not np.array_equal(image, wanted)


async def test_typed_contents_give_the_image_of_raw_ones(facade):
    kspace, lines = scan(2)
    raw = request_of({"KSPACE": floats(kspace), "MASK": lines})
    typed = pb.ModelInferRequest(model_name="rss")
    typed.inputs.extend(raw.inputs)
    typed.inputs[0].contents.fp32_contents.extend(floats(kspace).ravel().tolist())
    typed.inputs[1].contents.bool_contents.extend(lines.tolist())
    images = [image_of(await facade.stub.ModelInfer(request)) for request in (raw, typed)]
    np.testing.assert_array_equal(*images)


async def test_auto_says_what_it_picked_and_what_it_noticed(facade):
    kspace, lines = scan()
    mask = np.broadcast_to(lines, kspace.shape[1:])
    response = await facade.stub.ModelInfer(request_of({"KSPACE": floats(kspace)}, "auto"))
    sampling = Sampling.of(mask, calibration_extent(mask), COILS)
    assert response.model_name == selection.choose(sampling, registry.available()).info.name
    findings = json.loads(response.parameters["findings"].string_param)
    assert "mask-derived" in {finding["code"] for finding in findings}


async def test_only_the_outputs_that_are_asked_for_come_back(facade):
    request = request_of({"KSPACE": floats(scan()[0])}, "cg-sense")
    request.outputs.add(name="RESIDUAL")
    response = await facade.stub.ModelInfer(request)
    assert [output.name for output in response.outputs] == ["RESIDUAL"]
    (residual,) = np.frombuffer(response.raw_output_contents[0], "<f8")
    assert 0 < residual < 1


async def test_frames_of_many_callers_share_a_batch(facade):
    facade.backend.gate.clear()
    requests = [request_of({"KSPACE": floats(random_kspace(coils, ROWS, COLUMNS))}) for coils in (2, 3, 4, 5)]
    calls = [asyncio.ensure_future(facade.stub.ModelInfer(request)) for request in requests]
    await eventually_async(lambda: facade.services.scheduler.waiting + facade.services.scheduler.running == 4)
    facade.backend.gate.set()
    for call, coils in zip(calls, (2, 3, 4, 5), strict=True):
        np.testing.assert_allclose(image_of(await call), rss_of(random_kspace(coils, ROWS, COLUMNS)[None]), rtol=1e-4)


# --- what is wrong ---

KSPACE = floats(random_kspace(COILS, ROWS, COLUMNS))


def with_value(values: np.ndarray, value: float) -> np.ndarray:
    changed = values.copy()
    changed[0, 1, 2, 3, 0] = value
    return changed


@pytest.mark.parametrize(
    ("tensors", "field", "reason"),
    [
        ({}, "KSPACE", "INPUT_MISSING"),
        ({"KSPACE": KSPACE, "IMAGE": KSPACE}, "IMAGE", "INPUT_UNKNOWN"),
        ({"KSPACE": KSPACE.astype(np.float64)}, "KSPACE", "INPUT_TYPE"),
        ({"KSPACE": KSPACE[..., :1]}, "KSPACE", "INPUT_SHAPE"),
        ({"KSPACE": np.concatenate([KSPACE, KSPACE])}, "KSPACE", "INPUT_SHAPE"),
        ({"KSPACE": KSPACE[:, :0]}, "KSPACE", "INPUT_SHAPE"),
        ({"KSPACE": with_value(KSPACE, np.nan)}, "KSPACE[0]", "NOT_FINITE"),
        ({"KSPACE": with_value(KSPACE, -np.inf)}, "KSPACE[0]", "NOT_FINITE"),
        ({"KSPACE": KSPACE, "MASK": np.ones((1, 7), bool)}, "MASK", "MASK_SHAPE"),
        ({"KSPACE": KSPACE, "MASK": np.zeros((1, COLUMNS), bool)}, "MASK", "MASK_EMPTY"),
        ({"KSPACE": KSPACE, "CALIBRATION": KSPACE[:, :2]}, "CALIBRATION", "CALIBRATION_SHAPE"),
        ({"KSPACE": KSPACE, "CALIBRATION": with_value(KSPACE, np.inf)}, "CALIBRATION", "NOT_FINITE"),
    ],
)
async def test_wrong_tensors_are_named(facade, tensors, field, reason):
    refused = await facade.refused(request_of(tensors))
    assert (refused.code, refused.field, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, field, reason)
    assert refused.request_id


async def test_contents_that_do_not_fit_their_shapes_are_refused(facade):
    request = request_of({"KSPACE": KSPACE})
    request.raw_input_contents[0] = request.raw_input_contents[0][:-4]
    assert (await facade.refused(request)).reason == "SIZE_MISMATCH"
    request.ClearField("raw_input_contents")
    assert (await facade.refused(request)).reason == "SIZE_MISMATCH"
    twice = request_of({"KSPACE": KSPACE})
    twice.inputs.append(twice.inputs[0])
    assert (await facade.refused(twice)).reason == "CONTENTS_MISMATCH"
    twice.raw_input_contents.append(twice.raw_input_contents[0])
    assert (await facade.refused(twice)).reason == "INPUT_TWICE"
    ones = request_of({"KSPACE": KSPACE, "MASK": np.ones(COLUMNS, bool)})
    ones.raw_input_contents[1] = bytes([2] * COLUMNS)
    refused = await facade.refused(ones)
    assert (refused.field, refused.reason) == ("MASK", "MASK_VALUES")
    huge = request_of({"KSPACE": KSPACE})
    huge.inputs[0].shape[2] = 1 << 40
    assert (await facade.refused(huge)).code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_wrong_parameters_and_outputs_are_refused(facade):
    for name, value in (("priority", 4), ("timeout", -1), ("sequence_id", 1)):
        refused = await facade.refused(request_of({"KSPACE": KSPACE}, **{name: value}))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    text = request_of({"KSPACE": KSPACE})
    text.parameters["priority"].string_param = "stat"
    assert (await facade.refused(text)).field == "priority"
    output = request_of({"KSPACE": KSPACE})
    output.outputs.add(name="PHASE")
    assert (await facade.refused(output)).field == "PHASE"
    shared = request_of({"KSPACE": KSPACE})
    shared.inputs[0].parameters["shared_memory_region"].string_param = "mine"
    assert (await facade.refused(shared)).reason == "SHARED_MEMORY"


def many_of(field: str) -> pb.ModelInferRequest:
    request = request_of({"KSPACE": KSPACE})
    if field == "KSPACE":
        del request.inputs[0].shape[:]
        request.inputs[0].shape.extend([(1 << 62) + 1] * 60_000)
    elif field == "raw_input_contents":
        request.raw_input_contents.extend([b""] * 100_000)
    elif field == "parameters":
        for number in range(20_000):
            request.parameters[str(number)].int64_param = 1
    else:
        lists = getattr(request, field)
        lists.extend([lists.add(name="KSPACE" if field == "inputs" else "IMAGE")] * 100_000)
    return request


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ("KSPACE", "INPUT_SHAPE"),
        *((field, "TOO_MANY_ENTRIES") for field in ("inputs", "outputs", "raw_input_contents", "parameters")),
    ],
)
async def test_endless_lists_are_refused(facade, field, reason):
    refused = await facade.refused(many_of(field), seconds=10)
    assert (refused.code, refused.reason, refused.field) == (grpc.StatusCode.INVALID_ARGUMENT, reason, field)


async def test_a_model_that_cannot_take_the_frame_refuses_it(facade):
    refused = await facade.refused(request_of({"KSPACE": KSPACE[:, :1]}, "cg-sense"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_UNSUITABLE")


async def test_an_error_of_the_model_reaches_the_caller(facade):
    facade.backend.failure = DefectError("rss failed on this frame", reason="MODEL_FAILED")
    refused = await facade.refused(request_of({"KSPACE": KSPACE}))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "MODEL_FAILED")


# --- time ---


async def test_a_call_that_is_cancelled_withdraws_its_frame(facade):
    facade.backend.gate.clear()
    call = facade.stub.ModelInfer(request_of({"KSPACE": KSPACE}))
    await eventually_async(lambda: facade.backend.batches)
    call.cancel()
    await eventually_async(lambda: facade.backend.batches[0].withdrawn)


@pytest.mark.parametrize("how", ["deadline", "parameter"])
async def test_a_frame_that_is_too_late_is_withdrawn(facade, how):
    facade.backend.gate.clear()
    if how == "deadline":
        refused = await facade.refused(request_of({"KSPACE": KSPACE}), seconds=0.3)
    else:
        refused = await facade.refused(request_of({"KSPACE": KSPACE}, timeout=300_000))
        assert refused.reason in {"DEADLINE", "DEADLINE_IN_QUEUE"}
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await eventually_async(lambda: not facade.backend.batches or facade.backend.batches[0].withdrawn)


async def test_priority_reaches_the_scheduler(facade):
    facade.backend.gate.clear()
    first = asyncio.ensure_future(facade.stub.ModelInfer(request_of({"KSPACE": KSPACE})))
    await eventually_async(lambda: facade.backend.batches)
    other = floats(random_kspace(COILS, ROWS, COLUMNS + 8))
    later = [
        asyncio.ensure_future(facade.stub.ModelInfer(request_of({"KSPACE": values}, priority=int(priority))))
        for values, priority in ((KSPACE, Priority.RESEARCH), (other, Priority.STAT))
    ]
    await eventually_async(lambda: facade.services.scheduler.waiting == 2)
    facade.backend.gate.set()
    await asyncio.gather(first, *later)
    assert [batch.frames[0].layout.columns for batch in facade.backend.batches] == [COLUMNS, COLUMNS + 8, COLUMNS]


async def test_a_draining_service_refuses_frames(facade):
    facade.services.admission.draining = True
    refused = await facade.refused(request_of({"KSPACE": KSPACE}))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert refused.retry_after is not None


async def test_a_full_service_says_when_to_come_back(facade):
    facade.backend.gate.clear()
    request = request_of({"KSPACE": KSPACE})
    calls = [asyncio.ensure_future(facade.stub.ModelInfer(request)) for _ in range(20)]
    await eventually_async(lambda: sum(call.done() for call in calls) >= 4)
    # Another one may be refused at this moment: all are looked at once they have ended.
    facade.backend.gate.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    refused = [refusal(each) for each in ended if isinstance(each, BaseException)]
    assert 4 <= len(refused) < 20
    assert {(each.code, each.reason) for each in refused} == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")}
    assert all(each.retry_after > 0 for each in refused)
    assert all(len(each.outputs) for each in ended if not isinstance(each, BaseException))
