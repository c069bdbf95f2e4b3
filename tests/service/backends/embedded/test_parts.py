"""Small parts of the embedded servers: the board, options, pauses, devices, measurements."""

import msgspec
import numpy as np
import pytest
import structlog
import torch

from recond_models import loading, registry
from recond_models.batch import PackedBatch
from recond_models.finishing import magnitudes
from recond_service.backends.embedded import measuring
from recond_service.backends.embedded.board import Board
from recond_service.backends.embedded.messages import StartWorker
from recond_service.backends.embedded.models import LoadedModels
from recond_service.backends.embedded.options import WarmUp, WorkerOptions
from recond_service.execution.device import Processor, device_of, ran_out_of_memory
from recond_service.processes.backoff import Backoff

cuda = pytest.mark.cuda
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


def test_both_sides_see_the_same_board():
    with Board.create() as memory:
        ours, theirs = Board(memory), Board(memory)
        last = ours.slots()[-1]
        ours.withdraw(last, 5)
        ours.withdraw(0, 4094)
        assert [theirs.withdrawn(last, frame) for frame in (4, 5, 6)] == [False, True, False]
        assert theirs.withdrawn(0, 4094)
        assert not theirs.withdrawn(1, 0)
        theirs.begin(last)
        assert ours.begun(last)
        assert not ours.begun(0)
        ours.withdraw(0, 10**6)
        assert not theirs.withdrawn(0, 10**6)
        ours.clear(last)
        assert not theirs.withdrawn(last, 5)
        assert not theirs.begun(last)
        assert theirs.withdrawn(0, 4094)
        for board in (ours, theirs):
            board.close()


def test_options_travel():
    options = WorkerOptions("worker-1", "cuda:1", 3, 0.3, 2, ("rss:1x2x3",), measure=True)
    sent = msgspec.msgpack.encode(StartWorker(options))
    assert msgspec.msgpack.decode(sent, type=StartWorker).options == options


@pytest.mark.parametrize("text", ["rss", "rss:1x2", "rss:0x64x64", "rss:1x2x3x4", ":1x2x3", "rss:1x2x-3"])
def test_a_malformed_warm_up_says_how_it_is_written(text):
    with pytest.raises(ValueError, match="MODEL:COILSxROWSxCOLUMNS"):
        WarmUp.parse(text)


def test_a_warm_up_is_understood():
    assert WarmUp.parse(" cg-sense:8x320x256") == WarmUp("cg-sense", 8, 320, 256)


def test_pauses_grow_with_short_lives_and_end_with_a_long_one():
    now = [0.0]
    backoff = Backoff(lambda: now[0])
    pauses = []
    for life in [1.0] * 10 + [60.0, 1.0, 1.0]:
        backoff.begun()
        now[0] += life
        pauses.append(backoff.ended())
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 0.0, 0.1, 0.2]
    backoff.begun()
    backoff.useful()
    assert [backoff.ended(), backoff.ended()] == [0.1, 0.2]


def test_memory_that_does_not_suffice_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 46)
    assert ran_out_of_memory(caught.value)
    assert ran_out_of_memory(MemoryError())
    assert ran_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not ran_out_of_memory(RuntimeError("shapes do not match"))
    assert not ran_out_of_memory(ValueError("not enough memory"))


def test_the_memory_of_work_is_measured_when_its_kind_is_new():
    device = device_of("cpu")
    assert isinstance(device, Processor)
    size = 200 << 20

    def work() -> int:
        return int(np.ones(size, np.uint8)[::4096].sum())

    value, peak = device.run("kind", work, 1000)
    assert value == size // 4096
    assert 0.8 * size < peak < 2 * size
    assert device.run("kind", lambda: 7, 1000) == (7, peak)
    assert device.run("other", lambda: 7, 1000)[1] < size // 4
    assert 0 < device.memory_bytes(4) <= device.memory_bytes(1) / 3


def test_models_are_measured_on_small_frames():
    models, device = LoadedModels("cpu"), device_of("cpu")
    infos = [registry.find(name) for name in ("rss", "cg-sense", "unrolled-brain-fast")]
    found = measuring.measure_loaded(models, device, infos)
    assert {measured.model for measured in found} >= {"rss", "unrolled-brain-fast"}
    for measured in found:
        info = registry.find(measured.model)
        assert (measured.version, measured.weights_sha256) == (info.version, info.weights_sha256)
        assert (measured.coils, measured.rows, measured.columns) == ((4,), 80, 64)
        assert 0 < measured.seconds < 60
        assert measured.peak_bytes >= 0


def test_warm_up_runs_batches_of_one_two_and_four_and_leaves_out_what_cannot_be(monkeypatch):
    ran = []
    monkeypatch.setattr(LoadedModels, "get", spy(LoadedModels.get, ran))
    with structlog.testing.capture_logs() as logs:
        found = measuring.warm_up(
            LoadedModels("cpu"), device_of("cpu"), ["nonsense", "nobody:1x8x8", "cg-sense:1x32x32", "cg-sense:3x40x32"]
        )
    assert [measured.coils for measured in found] == [(3,), (3, 3), (3, 3, 3, 3)]
    assert {(measured.model, measured.rows, measured.columns) for measured in found} == {("cg-sense", 40, 32)}
    # Coil sensitivities need two coils.
    assert [entry["event"] for entry in logs] == ["warm-up-refused", "warm-up-refused", "warm-up-failed"]
    assert len(ran) == 4


def spy(method, calls):
    def recorded(self, *arguments):
        calls.append(arguments)
        return method(self, *arguments)

    return recorded


def test_the_example_can_be_reconstructed():
    batch = measuring.example([4, 2], 96, 80)
    images = magnitudes(loading.load("cg-sense").reconstruct(batch)).numpy()
    inside, outside = images[:, 40:56, 30:50], images[:, :6, :6]
    assert (inside.mean((1, 2)) > 5 * outside.mean((1, 2))).all()


@cuda
@needs_gpu
def test_batches_are_staged_to_the_gpu_while_it_computes():
    device = device_of("cuda:0")
    assert device.memory_bytes(1) > 1 << 30
    batches = [measuring.example([4, 3], 64, 48), measuring.example([8], 96, 80), measuring.example([2], 32, 40)]
    staged = [device.stage(batch) for batch in batches[:2]]
    taken = [take() for take in staged]
    taken.append(device.stage(batches[2])())
    for batch, there in zip(batches, taken, strict=True):
        assert there.kspace.is_cuda
        assert torch.equal(there.kspace.cpu(), batch.kspace)
        assert there.masks is batch.masks
    for name in ("rss", "cg-sense", "l1-wavelet", "unrolled-brain-fast"):
        on_cpu, on_gpu = loading.load(name), loading.load(name, device="cuda:0")
        expected = magnitudes(on_cpu.reconstruct(batches[0]))
        (found, peak) = device.run("kind", lambda model=on_gpu: magnitudes(model.reconstruct(taken[0])), 0)
        assert float((found - expected).abs().max() / expected.abs().max()) < 1e-2
        assert peak > 0


@cuda
@needs_gpu
def test_a_gpu_recovers_from_running_out_of_memory():
    device = device_of("cuda:0")
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(1 << 45, device="cuda:0")
    assert ran_out_of_memory(caught.value)
    device.recover()
    assert int(torch.ones(10, device="cuda:0").sum()) == 10


def test_packed_batches_stay_as_they_are_on_the_processor():
    batch = measuring.example([2], 32, 32)
    assert isinstance(batch, PackedBatch)
    assert device_of("cpu").stage(batch)() is batch
