"""Specs, acquisitions, errors and retries: what needs no network."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import ismrmrd
import numpy as np
import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from recond.v1 import reconstruction_pb2 as pb
from recond_client import aio
from recond_client.acquisitions import AcquisitionBatch, batches_of
from recond_client.channel import Endpoint, error_of_call
from recond_client.client import Client
from recond_client.errors import InputError, RecondError, RetryLaterError, ServiceError, error_from_status
from recond_client.result import Result
from recond_client.retry import Clock, RetryPolicy, Schedule
from recond_client.spec import Options, file_request, parse_outputs, parse_undersampling, stream_request
from recond_client.upload import upload_of


def test_spec_of_a_file() -> None:
    options = Options("cg-sense", "2", "random:8", (".png", "nii.gz", ".PNG"), ("tumour",), "stat", images=False)
    spec = file_request(options, upload_of(b"data")).spec
    assert (spec.model, spec.model_version) == ("cg-sense", "2")
    assert list(spec.outputs) == [pb.OUTPUT_FORMAT_PNG, pb.OUTPUT_FORMAT_NIFTI]
    assert list(spec.heads) == ["tumour"]
    assert spec.priority == pb.PRIORITY_STAT
    assert spec.omit_images
    assert spec.undersampling == pb.Undersampling(kind=pb.UNDERSAMPLING_KIND_RANDOM, acceleration=8)
    assert spec.parts.parts[0].size_bytes == 4


def test_spec_of_a_stream() -> None:
    spec = stream_request(Options(), 1000).spec
    assert spec.WhichOneof("source") == "acquisition_stream"
    assert spec.acquisition_stream.expected_bytes == 1000
    assert not spec.HasField("undersampling")
    assert stream_request(Options(), 0).spec.WhichOneof("source") == "acquisition_stream"


def test_conditioning_travels_only_where_it_is_asked_for() -> None:
    assert not file_request(Options(), upload_of(b"data")).spec.HasField("conditioning")
    for spec in (
        file_request(Options(partial_fourier="pocs", virtual_coils=8, coil_energy=0.99), upload_of(b"data")).spec,
        stream_request(Options(partial_fourier="pocs", virtual_coils=8, coil_energy=0.99), 0).spec,
    ):
        assert spec.conditioning == pb.Conditioning(
            partial_fourier=pb.PARTIAL_FOURIER_POCS, virtual_coils=8, coil_energy=0.99
        )


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"partial_fourier": "homodyne"}, "partial_fourier"),
        ({"virtual_coils": -1}, "virtual_coils"),
        ({"virtual_coils": 65536}, "virtual_coils"),
        ({"coil_energy": -0.1}, "coil_energy"),
        ({"coil_energy": 1.1}, "coil_energy"),
        ({"coil_energy": float("nan")}, "coil_energy"),
    ],
)
def test_bad_conditioning(options: dict, field: str) -> None:
    with pytest.raises(InputError) as caught:
        Options(**options).to_wire()
    assert caught.value.field == field


def test_undersampling() -> None:
    found = parse_undersampling("equispaced-fraction:4:0.08")
    assert (found.kind, found.acceleration, found.center_fraction) == (
        pb.UNDERSAMPLING_KIND_EQUISPACED_FRACTION,
        4,
        0.08,
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "poisson:4",
        "random",
        "random:",
        "random:x",
        "random:1",
        "random:nan",
        "random:4:0",
        "random:4:1",
        "random:4:0.1:2",
        "random:inf",
    ],
)
def test_bad_undersampling(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_undersampling(text)
    assert caught.value.reason == "BAD_UNDERSAMPLING"


def test_bad_options() -> None:
    with pytest.raises(InputError, match=r"no such output: '.dcm'"):
        parse_outputs([".dcm"])
    with pytest.raises(InputError, match="no such priority"):
        Options(priority="urgent").to_wire()  # type: ignore[arg-type]


def test_a_string_is_no_list() -> None:
    with Client("localhost:1") as client:
        with pytest.raises(InputError, match=r"give a list, outputs=\['.h5'\]"):
            client.reconstruct(b"raw", outputs=".h5")
        with pytest.raises(InputError, match=r"give a list, heads=\['x'\]"):
            client.stream("", [], heads="x")


@pytest.mark.parametrize("timeout", [-1, 0, float("nan")])
def test_timeouts_are_above_0(timeout: float) -> None:
    with Client("localhost:1") as client:
        for call in (
            lambda: client.reconstruct(b"raw", timeout=timeout),
            lambda: client.stream("", [], timeout=timeout),
            lambda: client.models(timeout=timeout),
            lambda: client.health(timeout=timeout),
            lambda: client.wait_until_ready(timeout),
        ):
            with pytest.raises(InputError, match="give seconds above 0") as caught:
                call()
            assert (caught.value.reason, caught.value.field) == ("OUT_OF_RANGE", "timeout")


def test_the_asynchronous_client_refuses_the_same() -> None:
    async def calls() -> None:
        async with aio.Client("localhost:1") as client:
            with pytest.raises(InputError, match="give seconds above 0"):
                await client.reconstruct(b"raw", timeout=-1)
            with pytest.raises(InputError, match="give seconds above 0"):
                client.stream("", [], timeout=-1)
            with pytest.raises(InputError, match="give seconds above 0"):
                await client.wait_until_ready(-1)
            with pytest.raises(InputError, match="give a list"):
                await client.reconstruct(b"raw", outputs=".h5")

    asyncio.run(calls())


def acquisition(line: int, channels: int = 2, samples: int = 4, dimensions: int = 0) -> ismrmrd.Acquisition:
    rng = np.random.default_rng(line)
    data = (rng.normal(size=(channels, samples)) + 1j).astype(np.complex64)
    trajectory = rng.normal(size=(samples, dimensions)).astype(np.float32)
    made = ismrmrd.Acquisition.from_array(data, trajectory)
    made.idx.kspace_encode_step_1 = line
    return made


def test_batches_of_acquisitions() -> None:
    made = [acquisition(line, samples=3 + line, dimensions=line % 2) for line in range(7)]
    batches = list(batches_of(iter(made), count=3))
    assert [batch.count for batch in batches] == [3, 3, 1]
    message = batches[0].to_wire().acquisitions
    assert message.count == 3
    assert message.samples == b"".join(one.data.tobytes() for one in made[:3])
    assert message.trajectories == made[1].traj.tobytes()
    header = ismrmrd.AcquisitionHeader.from_buffer_copy(message.headers[340:680])
    assert (header.idx.kspace_encode_step_1, header.number_of_samples) == (1, 4)


def test_batches_by_size() -> None:
    made = [acquisition(line, channels=8, samples=256) for line in range(5)]
    assert [batch.count for batch in batches_of(made, max_bytes=40_000)] == [2, 2, 1]


def test_nothing_is_held_back_at_one() -> None:
    taken = []

    def scanner():
        for line in range(3):
            taken.append(line)
            yield acquisition(line)

    batches = batches_of(scanner(), count=1)
    next(batches)
    assert taken == [0]


def test_batch_of_arrays() -> None:
    one = acquisition(0)
    headers = np.frombuffer(bytes(one.getHead()), dtype=np.dtype("V340"))
    assert AcquisitionBatch(headers, one.data).to_wire() == next(batches_of([one])).to_wire()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"headers": b""}, "0 bytes"),
        ({"headers": b"x" * 341}, "341 bytes"),
        ({"headers": np.zeros(2, "V170")}, "items of 170 bytes"),
        ({"samples": b""}, "samples have 0 bytes, but the headers announce 64"),
        ({"samples": np.zeros(8, np.complex128)}, "type complex128"),
        ({"trajectories": b"1234"}, "trajectories have 4 bytes, but the headers announce 0"),
    ],
)
def test_bad_batches(fields: dict[str, object], message: str) -> None:
    one = acquisition(0)
    good: dict[str, object] = {"headers": bytes(one.getHead()), "samples": one.data}
    with pytest.raises(InputError, match=message):
        AcquisitionBatch(**{**good, **fields})  # type: ignore[arg-type]


def test_batch_over_the_limit_of_messages() -> None:
    with pytest.raises(InputError, match="4000000"):
        next(batches_of([acquisition(0, channels=32, samples=16000)]))


# --- errors ---


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (StatusCode.INVALID_ARGUMENT, InputError),
        (StatusCode.FAILED_PRECONDITION, InputError),
        (StatusCode.NOT_FOUND, InputError),
        (StatusCode.RESOURCE_EXHAUSTED, InputError),
        (StatusCode.UNAVAILABLE, RetryLaterError),
        (StatusCode.DEADLINE_EXCEEDED, RetryLaterError),
        (StatusCode.CANCELLED, RetryLaterError),
        (StatusCode.INTERNAL, ServiceError),
        (StatusCode.UNAUTHENTICATED, ServiceError),
        (StatusCode.PERMISSION_DENIED, ServiceError),
        (StatusCode.UNIMPLEMENTED, ServiceError),
        (StatusCode.UNKNOWN, ServiceError),
    ],
)
def test_class_by_status(details: SimpleNamespace, code: StatusCode, kind: type[RecondError]) -> None:
    error = error_from_status(code.name, "text", details.trailing(code, "text", details.reason("WHY")))
    assert type(error) is kind
    assert (error.status, error.reason, error.message) == (code.name, "WHY", "text")


def test_all_details(details: SimpleNamespace) -> None:
    code = StatusCode.RESOURCE_EXHAUSTED
    metadata = details.trailing(
        code,
        "full",
        details.reason("OVERLOAD"),
        details.bad_field("spec.parts[0]"),
        details.retry_in(1.5),
        details.request_info("r-9"),
    )
    error = error_from_status(code.name, "full", [("other", "x"), *metadata], "r-0")
    assert type(error) is RetryLaterError
    assert (error.reason, error.field, error.retry_after, error.request_id) == ("OVERLOAD", "spec.parts[0]", 1.5, "r-9")
    assert str(error) == "spec.parts[0]: full"


def test_unreadable_details_do_not_hide_the_status() -> None:
    error = error_from_status("INVALID_ARGUMENT", "bad", [("grpc-status-details-bin", b"\xff\xff\xff")], "r-1")
    assert type(error) is InputError
    assert (error.message, error.request_id) == ("bad", "r-1")


def test_a_timeout_of_this_side_has_the_reason_of_a_deadline() -> None:
    assert error_of_call("DEADLINE_EXCEEDED", "Deadline Exceeded", None, "host:1").reason == "DEADLINE"


@pytest.mark.parametrize(
    ("status", "details", "kind", "text"),
    [
        ("UNAVAILABLE", "connection refused", RetryLaterError, "host:1 cannot be reached"),
        ("UNAVAILABLE", "Ssl handshake failed", ServiceError, "no TLS connection to host:1"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", RetryLaterError, "within the timeout"),
        ("CANCELLED", "Locally cancelled by application!", RetryLaterError, "host:1 was cancelled"),
        ("CANCELLED", "Channel closed!", RetryLaterError, "host:1 was cancelled"),
        ("CANCELLED", "CANCELLED", RetryLaterError, "ended the call: try again"),
        ("CANCELLED", "Received RST_STREAM with error code 8", RetryLaterError, "ended the call: try again"),
    ],
)
def test_words_where_only_the_transport_spoke(status: str, details: str, kind: type, text: str) -> None:
    error = error_of_call(status, details, None, "host:1")
    assert type(error) is kind
    assert text in str(error)


@pytest.mark.parametrize(
    "target", ["nonsense", "host:", ":1", "host:http", "host:0", "host:65536", "http://host:1", "::1:5"]
)
def test_targets_that_are_none(target: str) -> None:
    with pytest.raises(InputError, match="is not HOST:PORT: give") as caught:
        Endpoint(target)
    assert caught.value.reason == "BAD_TARGET"


@pytest.mark.parametrize(
    "target", ["host:1", "[::1]:50051", "ipv4:10.0.0.5:1,10.0.0.6:1", "dns:///host:443", "unix:/x"]
)
def test_targets(target: str) -> None:
    assert Endpoint(target).target == target


# --- retries ---


def unavailable(after: float | None = None) -> RecondError:
    return RetryLaterError("away", status="UNAVAILABLE", retry_after=after)


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def clock(self, chance: float = 0.0) -> Clock:
        return Clock(lambda: self.now, lambda: chance)


def test_delays_grow_to_a_limit_and_end() -> None:
    schedule = Schedule(RetryPolicy(attempts=5, first_delay=1, factor=3, max_delay=5), None, Time().clock())
    assert [schedule.delay_after(unavailable(), repeatable=True) for _ in range(5)] == [1, 3, 5, 5, None]


def test_jitter_and_hint() -> None:
    policy = RetryPolicy(first_delay=1, jitter=0.5)
    assert Schedule(policy, None, Time().clock(0.5)).delay_after(unavailable(), repeatable=True) == 0.75
    assert Schedule(policy, None, Time().clock(0.5)).delay_after(unavailable(10), repeatable=True) == 10.75


def test_only_what_is_safe() -> None:
    def delay(error: RecondError, *, repeatable: bool = True) -> float | None:
        return Schedule(RetryPolicy(), None, Time().clock()).delay_after(error, repeatable=repeatable)

    assert delay(unavailable()) is not None
    assert delay(RetryLaterError("full", status="RESOURCE_EXHAUSTED", retry_after=1)) is not None
    assert delay(unavailable(), repeatable=False) is None
    assert delay(RetryLaterError("late", status="DEADLINE_EXCEEDED")) is None
    assert delay(InputError("bad")) is None
    assert delay(ServiceError("defect", status="INTERNAL")) is None


@given(timeout=st.floats(0.1, 60), hints=st.lists(st.floats(0, 20), max_size=10), chance=st.floats(0, 0.99))
def test_never_sleeps_past_the_deadline(timeout: float, hints: list[float], chance: float) -> None:
    time = Time()
    schedule = Schedule(RetryPolicy(attempts=100), timeout, time.clock(chance))
    for hint in hints:
        delay = schedule.delay_after(unavailable(hint), repeatable=True)
        if delay is None:
            break
        time.now += delay
    assert time.now <= 100 + timeout
    assert schedule.remaining() >= 0


# --- endpoint ---


def test_endpoint(tmp_path) -> None:
    assert Endpoint("host:1").credentials() is None
    assert Endpoint("host:1", tls=True).credentials() is not None
    with pytest.raises(InputError, match="go together"):
        Endpoint("host:1", certificate=b"x")
    with pytest.raises(InputError, match="contradicts"):
        Endpoint("host:1", ca=b"x", tls=False)
    with pytest.raises(InputError, match="cannot be read"):
        Endpoint("host:1", ca=tmp_path / "none.pem").credentials()
    assert ("grpc.enable_http_proxy", 0) in Endpoint("127.0.0.1:1").options()
    assert ("grpc.enable_http_proxy", 1) in Endpoint("recond.example:1").options()


# --- saving ---


def result_with(**files: bytes) -> Result:
    return Result(
        np.zeros((0, 0, 0), np.float32),
        (),
        (),
        None,
        None,
        (),
        "m",
        "1",
        "",
        "",
        files={"." + k.replace("_", "."): v for k, v in files.items()},  # type: ignore[arg-type]
    )


def test_save(tmp_path) -> None:
    result = result_with(nii_gz=b"volume", png=b"sheet")
    target = tmp_path / "head.nii.gz"
    target.write_bytes(b"old")
    assert result.save(target) == target
    assert target.read_bytes() == b"volume"
    (tmp_path / "other").touch()
    assert target.stat().st_mode == (tmp_path / "other").stat().st_mode
    with pytest.raises(InputError, match=r"'head.h5' does not end in one of .*\.nii\.gz, \.png"):
        result.save(tmp_path / "head.h5")


def test_failed_save_leaves_nothing(tmp_path) -> None:
    folder = tmp_path / "head.png"
    folder.mkdir()
    (folder / "inside").write_text("")
    with pytest.raises(OSError, match=r"head\.png"):
        result_with(png=b"sheet").save(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["head.png"]
