"""Compiled networks: compiled beside the work, checked, few at a time."""

import logging
import subprocess
import sys
import threading

import pytest
import torch
from network_builders import relative, unet

from recond_models.networks import buckets
from recond_models.networks.buckets import Buckets
from recond_models.networks.engines import LARGEST_DIFFERENCE, PlainEngine
from recond_models.networks.openvino_engine import OpenVinoEngine, compiler
from recond_models.networks.unet import Unet

needs_openvino = pytest.mark.skipif(compiler() is None, reason="OpenVINO is not installed")


class Twice(PlainEngine):
    """An engine that is a given factor off."""

    factor = 1.0

    def __init__(self, network, size, precision, threads):
        super().__init__(network, torch.device("cpu"), precision)

    def __call__(self, channels):
        return super().__call__(channels) * self.factor


@pytest.mark.parametrize(("factor", "kept"), [(1 + 1e-6, True), (1 + 1e-3, False), (float("nan"), False)])
def test_engines_that_differ_too_much_are_refused(factor, kept, caplog):
    compile_with = type("Off", (Twice,), {"factor": factor})
    store = Buckets([unet(), unet(seed=1)], "float32", compile_with)
    with caplog.at_level(logging.WARNING):
        plain = store.engines((32, 32))
        store.wait()
    assert isinstance(store.engines((32, 32))[0], compile_with) == kept
    assert store.ready((32, 32)) == kept
    assert (store.engines((32, 32)) is plain) != kept
    assert ("refused" in caplog.text) != kept


def test_plain_engines_serve_meanwhile():
    gate = threading.Event()

    class Slow(Twice):
        def __init__(self, *arguments):
            gate.wait(30)
            super().__init__(*arguments)

    store = Buckets([unet()], "float32", Slow)
    engine = store.engines((32, 32))[0]
    assert not store.ready((32, 32))
    assert engine(torch.ones(1, 1, 32, 32)).isfinite().all()
    gate.set()
    store.wait()
    assert isinstance(store.engines((32, 32))[0], Slow)


def test_compiler_that_fails_is_asked_once(caplog):
    asked = []

    def broken(network, size, precision, threads):
        asked.append(size)
        raise RuntimeError("unsupported operation")

    store = Buckets([unet()], "float32", broken)
    for _ in range(3):
        store.engines((32, 32))
        store.wait()
    assert asked == [(32, 32)]
    assert "unsupported operation" in caplog.text


def test_sizes_that_were_not_used_for_longest_are_forgotten(monkeypatch):
    monkeypatch.setattr(buckets, "_BUCKETS", 2)
    store = Buckets([unet()], "float32", Twice)
    for size in ((16, 16), (16, 32), (16, 16), (16, 48)):
        store.engines(size)
        store.wait()
    assert [store.ready(size) for size in ((16, 16), (16, 32), (16, 48))] == [True, False, True]


def test_size_that_takes_too_much_memory_is_never_compiled():
    store = Buckets([unet()], "float32", Twice)
    store.engines((1 << 15, 1 << 15))
    store.wait()
    assert not store.ready((1 << 15, 1 << 15))


@needs_openvino
class TestOpenVino:
    @pytest.mark.parametrize("size", [(48, 64), (41, 37), (97, 16), (23, 29)])
    @pytest.mark.parametrize("channels", [(1, 1), (2, 2)])
    def test_equals_torch(self, size, channels):
        network = Unet(*channels, 5, 3).eval()
        images = torch.randn(3, channels[0], *size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = network(images)
        engine = OpenVinoEngine(network, size, "float32", 2)
        for _ in range(2):
            assert relative(engine(images), expected) < 1e-5
            engine.release()

    def test_answer_outlives_the_next_call(self):
        engine = OpenVinoEngine(unet(), (32, 32), "float32", 1)
        first = engine(torch.ones(1, 1, 32, 32))
        kept = first.clone()
        engine(torch.randn(1, 1, 32, 32))
        assert torch.equal(first, kept)

    def test_bfloat16_is_near_float32(self):
        network = unet(channels=8, pools=3)
        images = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = network(images)
        difference = relative(OpenVinoEngine(network, (64, 64), "bfloat16", 2)(images), expected)
        assert difference < LARGEST_DIFFERENCE["bfloat16"]

    def test_nothing_that_calls_out_is_imported(self):
        code = (
            "import sys, torch\n"
            "from recond_models.networks.openvino_engine import OpenVinoEngine\n"
            "from recond_models.networks.unet import Unet\n"
            "OpenVinoEngine(Unet(1, 1, 4, 1).eval(), (16, 16), 'float32', 1)(torch.ones(1, 1, 16, 16))\n"
            "print([name for name in sys.modules if 'telemetry' in name or name.startswith('openvino.tools.ovc')])\n"
        )
        run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
        assert run.stdout.strip() == "[]"

    def test_process_ends_in_the_middle_of_compiling(self):
        code = (
            "import torch\n"
            "from recond_models.networks.buckets import Buckets\n"
            "from recond_models.networks.openvino_engine import compiler\n"
            "from recond_models.networks.unet import Unet\n"
            "Buckets([Unet(1, 1, 16, 3).eval() for _ in range(50)], 'float32', compiler()).engines((256, 256))\n"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert (run.returncode, run.stderr) == (0, "")
