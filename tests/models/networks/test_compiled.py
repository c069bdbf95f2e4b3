"""Compiled networks: compiled when it pays, checked, kept on disk, few at a time."""

import logging
import os
import subprocess
import sys
import threading

import pytest
import torch
from network_builders import relative, unet

from recond_models.networks import compiled
from recond_models.networks.compiled import CompiledNetworks
from recond_models.networks.engines import LARGEST_DIFFERENCE, PlainEngine
from recond_models.networks.openvino_engine import OpenVinoProgram, build_identity, compiler
from recond_models.networks.program_cache import ProgramCache, default_cache, key_of
from recond_models.networks.unet import Unet

SIZE = (32, 32)
MANY, FEW = 10**9, 1
"""Images that pay for compiling at once, and an image that does not."""

needs_openvino = pytest.mark.skipif(compiler() is None, reason="OpenVINO is not installed")


class Trial:
    """A compiler whose programs are a given factor off, and that counts what is asked of it."""

    def __init__(self, factor=1.0, gate=None):
        self.factor, self.gate = factor, gate
        self.compiled, self.imported = [], []

    def __call__(self, network, size, precision, threads, exported):
        if self.gate is not None:
            self.gate.wait(30)
        (self.compiled if exported is None else self.imported).append(size)
        if exported not in {None, b"program"}:
            raise RuntimeError("not a program")
        return TrialProgram(self.factor)


class TrialProgram:
    def __init__(self, factor):
        self.factor = factor

    def bind(self, network):
        return TrialEngine(network, self.factor)

    def export(self):
        return b"program"


class TrialEngine(PlainEngine):
    def __init__(self, network, factor):
        super().__init__(network, torch.device("cpu"), "float32")
        self.factor = factor

    def __call__(self, channels):
        return super().__call__(channels) * self.factor


@pytest.mark.parametrize(("factor", "kept"), [(1 + 1e-6, True), (1 + 1e-3, False), (float("nan"), False)])
def test_programs_that_differ_too_much_are_refused(factor, kept, caplog):
    trial = Trial(factor)
    networks = CompiledNetworks([unet(), unet(seed=1)], "float32", trial)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            networks.prepare(SIZE, [MANY, MANY])
    assert networks.ready(SIZE) == kept
    assert isinstance(networks.latest(1, SIZE), TrialEngine) == kept
    assert ("refused" in caplog.text) != kept
    assert trial.compiled == [SIZE]


def test_networks_of_the_same_widths_share_a_program_and_keep_their_weights():
    trial = Trial()
    unets = [unet(channels=3), unet(seed=1), unet(seed=2)]
    networks = CompiledNetworks(unets, "float32", trial)
    networks.prepare(SIZE, [MANY, MANY, MANY])
    assert trial.compiled == [SIZE, SIZE]
    image = torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for number, network in enumerate(unets):
            assert torch.equal(networks.engine(number, SIZE)(image), network(image))


def test_what_does_not_pay_yet_is_compiled_beside_the_work_once_it_does():
    trial = Trial()
    networks = CompiledNetworks([unet()], "float32", trial)
    cost = compiled._COMPILE_SECONDS
    per_image = compiled._multiplications((1, 1, 4, 2), SIZE) * compiled._SAVED_SECONDS / torch.get_num_threads()
    share = int(0.4 * cost / per_image)
    for _ in range(2):
        networks.prepare(SIZE, [share])
        assert isinstance(networks.latest(0, SIZE), PlainEngine)
        assert not trial.compiled
    networks.prepare(SIZE, [share])
    networks.wait()
    assert trial.compiled == [SIZE]
    assert networks.ready(SIZE)


def test_an_engine_takes_the_compiled_way_as_soon_as_there_is_one():
    gate = threading.Event()
    networks = CompiledNetworks([unet()], "float32", Trial(1 + 5e-5, gate))
    engine = networks.engine(0, SIZE)
    image = torch.ones(1, 1, *SIZE)
    with torch.inference_mode():
        before = engine(image)
        worker = threading.Thread(target=networks.prepare, args=(SIZE, [MANY]))
        worker.start()
        assert torch.equal(engine(image), before)
        gate.set()
        worker.join(30)
        assert torch.equal(engine(image), before * (1 + 5e-5))


def test_compiler_that_fails_is_asked_once(caplog):
    asked = []

    def broken(network, size, precision, threads, exported):
        asked.append(size)
        raise RuntimeError("unsupported operation")

    networks = CompiledNetworks([unet()], "float32", broken)
    for _ in range(3):
        networks.prepare(SIZE, [MANY])
    assert asked == [SIZE]
    assert "unsupported operation" in caplog.text
    assert networks.engine(0, SIZE)(torch.ones(1, 1, *SIZE)).isfinite().all()


def test_programs_that_were_not_used_for_longest_are_forgotten(monkeypatch):
    monkeypatch.setattr(compiled, "_PROGRAMS", 2)
    networks = CompiledNetworks([unet()], "float32", Trial())
    for size in ((16, 16), (16, 32), (16, 16), (16, 48)):
        networks.prepare(size, [MANY])
    assert [networks.ready(size) for size in ((16, 16), (16, 32), (16, 48))] == [True, False, True]


def test_sizes_that_come_once_are_not_remembered_for_ever():
    networks = CompiledNetworks([unet()], "float32", Trial())
    for rows in range(16, 16 + 2 * compiled._PLACES):
        networks.prepare((rows, 16), [FEW])
    assert len(networks._places) == compiled._PLACES


def test_size_that_takes_too_much_memory_is_never_compiled():
    trial = Trial()
    networks = CompiledNetworks([unet()], "float32", trial)
    networks.prepare((1 << 15, 1 << 15), [MANY])
    assert not trial.compiled


class TestOnDisk:
    @pytest.fixture
    def cache(self, tmp_path):
        return ProgramCache(tmp_path / "cache")

    def networks(self, trial, cache, identity="this machine"):
        return CompiledNetworks([unet()], "float32", trial, cache, lambda: identity)

    def test_the_next_process_reads_what_was_compiled(self, cache):
        first, second, elsewhere = Trial(), Trial(), Trial()
        for trial, identity in ((first, "this machine"), (second, "this machine"), (elsewhere, "another version")):
            networks = self.networks(trial, cache, identity)
            networks.prepare(SIZE, [MANY])
            assert networks.ready(SIZE)
        assert (first.compiled, first.imported) == ([SIZE], [])
        assert (second.compiled, second.imported) == ([], [SIZE])
        assert (elsewhere.compiled, elsewhere.imported) == ([SIZE], [])

    def test_a_program_that_was_refused_is_not_kept(self, cache, tmp_path):
        self.networks(Trial(1.5), cache).prepare(SIZE, [MANY])
        assert not (tmp_path / "cache").exists()

    def test_a_program_that_cannot_be_imported_is_compiled_anew(self, cache, caplog):
        self.networks(Trial(), cache).prepare(SIZE, [MANY])
        (file,) = cache._folder.iterdir()
        cache.store(file.stem, b"of another version")
        trial = Trial()
        networks = self.networks(trial, cache)
        networks.prepare(SIZE, [MANY])
        assert networks.ready(SIZE)
        assert (trial.imported, trial.compiled) == ([SIZE], [SIZE])
        assert "compiled anew" in caplog.text
        assert cache.load(file.stem) == b"program"

    @pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda _: b""])
    def test_damaged_files_are_not_used(self, cache, damage):
        cache.store("a", b"program")
        (file,) = cache._folder.iterdir()
        file.write_bytes(damage(file.read_bytes()))
        assert cache.load("a") is None
        assert cache.store("a", b"again")
        assert cache.load("a") == b"again"

    def test_only_the_owner_can_read_and_write(self, cache):
        assert cache.store("a", b"program")
        assert cache._folder.stat().st_mode & 0o777 == 0o700
        (file,) = cache._folder.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600

    def test_a_folder_that_others_may_write_to_is_not_used(self, cache, caplog):
        cache.store("a", b"program")
        cache._folder.chmod(0o777)
        assert cache.load("a") is None
        assert not cache.store("b", b"program")
        assert "may be written by them" in caplog.text

    def test_links_are_not_followed(self, cache, tmp_path):
        cache.store("a", b"program")
        (file,) = cache._folder.iterdir()
        other = tmp_path / "other"
        file.rename(other)
        file.symlink_to(other)
        assert cache.load("a") is None
        linked = ProgramCache(tmp_path / "linked")
        (tmp_path / "linked").symlink_to(cache._folder)
        assert not linked.store("b", b"program")

    def test_the_files_unused_for_longest_go_first(self, tmp_path):
        cache = ProgramCache(tmp_path / "cache", most_bytes=400)
        for place, key in enumerate("abc"):
            assert cache.store(key, bytes(100))
            os.utime(cache._folder / f"{key}.program", (place, place))
        assert cache.load("a") is not None  # used just now
        assert cache.store("d", bytes(100))
        assert [key for key in "abcd" if cache.has(key)] == ["a", "c", "d"]
        assert not cache.store("e", bytes(1000))
        assert sorted(path.name for path in cache._folder.iterdir()) == ["a.program", "c.program", "d.program"]

    def test_what_a_dead_writer_left_behind_is_removed(self, cache):
        cache.store("a", b"program")
        old, fresh = cache._folder / ".new-old", cache._folder / ".new-fresh"
        old.touch()
        fresh.touch()
        os.utime(old, (0, 0))
        cache.store("b", b"program")
        assert not old.exists()
        assert fresh.exists()

    def test_a_folder_that_cannot_be_made_only_costs_time(self, tmp_path):
        (tmp_path / "file").touch()
        trial = Trial()
        networks = self.networks(trial, ProgramCache(tmp_path / "file" / "cache"))
        networks.prepare(SIZE, [MANY])
        assert networks.ready(SIZE)

    def test_where_the_default_lies(self, monkeypatch, tmp_path):
        monkeypatch.setenv("RECOND_CACHE_DIR", str(tmp_path / "named"))
        assert default_cache()._folder == tmp_path / "named" / "networks"
        monkeypatch.setenv("RECOND_CACHE_DIR", "off")
        assert default_cache() is None
        monkeypatch.delenv("RECOND_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert default_cache()._folder == tmp_path / "recond" / "networks"
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert default_cache()._folder == tmp_path / "home" / ".cache" / "recond" / "networks"

    def test_without_a_home_there_is_no_cache(self, monkeypatch):
        for name in ("RECOND_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
        assert default_cache() is None

    def test_keys_tell_everything_apart(self):
        keys = {key_of("v", (1, 2), "a"), key_of("v", (1, 2), "b"), key_of("v", (1, 3), "a"), key_of("v(", (1, 2), "a")}
        assert len(keys) == 4


@needs_openvino
class TestOpenVino:
    @pytest.mark.parametrize("size", [(48, 64), (41, 37), (97, 16), (23, 29)])
    @pytest.mark.parametrize("channels", [(1, 1), (2, 2)])
    def test_equals_torch(self, size, channels):
        networks = [Unet(*channels, 5, 3).eval() for _ in range(2)]
        images = torch.randn(3, channels[0], *size, generator=torch.Generator().manual_seed(0))
        program = OpenVinoProgram(networks[0], size, "float32", 2)
        for network in (*networks, networks[0]):
            with torch.inference_mode():
                expected = network(images)
            engine = program.bind(network)
            for _ in range(2):
                assert relative(engine(images), expected) < 1e-5
                engine.release()

    def test_engines_of_one_program_take_turns(self):
        networks = [unet(), unet(seed=1)]
        program = OpenVinoProgram(networks[0], (32, 32), "float32", 1)
        engines = [program.bind(network) for network in networks]
        images = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            for _ in range(2):
                for engine, network in zip(engines, networks, strict=True):
                    assert relative(engine(images), network(images)) < 1e-5

    def test_answer_outlives_the_next_call(self):
        engine = OpenVinoProgram(unet(), (32, 32), "float32", 1).bind(unet())
        first = engine(torch.ones(1, 1, 32, 32))
        kept = first.clone()
        engine(torch.randn(1, 1, 32, 32))
        assert torch.equal(first, kept)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_near_float32_and_the_same_after_export(self, precision):
        network = unet(channels=8, pools=3)
        images = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = network(images)
        program = OpenVinoProgram(unet(channels=8, pools=3, seed=5), (64, 64), precision, 2)
        found = program.bind(network)(images)
        assert relative(found, expected) < LARGEST_DIFFERENCE[precision]
        again = OpenVinoProgram(network, (64, 64), precision, 2, program.export())
        assert torch.equal(again.bind(network)(images), found)

    def test_bytes_that_are_no_program_are_refused(self):
        with pytest.raises(RuntimeError):
            OpenVinoProgram(unet(), (32, 32), "float32", 1, b"not a program")

    def test_the_build_is_identified(self):
        import openvino

        assert openvino.__version__ in build_identity()

    def test_a_second_process_finds_the_programs_of_the_first(self, tmp_path):
        code = (
            "import torch\n"
            "from recond_models.networks import openvino_engine\n"
            "from recond_models.networks.compiled import CompiledNetworks\n"
            "from recond_models.networks.unet import Unet\n"
            "torch.manual_seed(0)\n"
            "made = []\n"
            "class Counting(openvino_engine.OpenVinoProgram):\n"
            "    def __init__(self, unet, size, precision, threads, exported=None):\n"
            "        made.append('imported' if exported else 'compiled')\n"
            "        super().__init__(unet, size, precision, threads, exported)\n"
            "openvino_engine.compiler = lambda: Counting\n"
            "network = Unet(1, 1, 4, 2).eval()\n"
            "networks = CompiledNetworks.by_openvino([network], 'float32', compiled=True)\n"
            "networks.prepare((32, 32), [10**9])\n"
            "images = torch.randn(1, 1, 32, 32)\n"
            "with torch.inference_mode():\n"
            "    assert torch.allclose(networks.latest(0, (32, 32))(images), network(images), atol=1e-5)\n"
            "print(*made)\n"
        )
        environment = os.environ | {"RECOND_CACHE_DIR": str(tmp_path)}
        runs = [
            subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120, env=environment
            ).stdout.strip()
            for _ in range(2)
        ]
        assert runs == ["compiled", "imported"]

    def test_nothing_that_calls_out_is_imported(self):
        code = (
            "import sys, torch\n"
            "from recond_models.networks.openvino_engine import OpenVinoProgram\n"
            "from recond_models.networks.unet import Unet\n"
            "network = Unet(1, 1, 4, 1).eval()\n"
            "OpenVinoProgram(network, (16, 16), 'float32', 1).bind(network)(torch.ones(1, 1, 16, 16))\n"
            "print([name for name in sys.modules if 'telemetry' in name or name.startswith('openvino.tools.ovc')])\n"
        )
        run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
        assert run.stdout.strip() == "[]"

    def test_process_ends_in_the_middle_of_compiling(self):
        code = (
            "import torch\n"
            "from recond_models.networks import compiled\n"
            "from recond_models.networks.openvino_engine import compiler\n"
            "from recond_models.networks.unet import Unet\n"
            "unets = [Unet(1, 1, 16 + number, 3).eval() for number in range(4)]\n"
            "networks = compiled.CompiledNetworks(unets, 'float32', compiler())\n"
            "for _ in range(99):\n"
            "    networks.prepare((64, 64), [20] * 4)\n"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert (run.returncode, run.stderr) == (0, "")
