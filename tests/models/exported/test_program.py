"""Exported programs as data: they compute what torch computes, and do nothing else."""

import copy
import json
import zipfile

import pytest
import torch
from exported_programs import OneFrame, RealParts, Unrolled, complex_example, export, rewritten
from torch import nn
from torch.nn import functional

from recond_models.exported.archive import is_exported, read_archive
from recond_models.exported.errors import ProgramError
from recond_models.exported.operators import ATEN, find
from recond_models.exported.program import Program


class Attention(nn.Module):
    """Windows, attention, layers of other kinds, sizes that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 16, 4, stride=4)
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.up = nn.Sequential(
            nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.GELU(), nn.PixelShuffle(4), nn.Dropout(0.5)
        )

    def forward(self, kspace, mask):
        image = torch.fft.ifft2(kspace * mask).abs().mean(dim=0)[None, None]
        rows, columns = image.shape[-2:]
        padded = functional.pad(image, [0, (8 - columns % 8) % 8, 0, (8 - rows % 8) % 8], mode="reflect")
        tokens = torch.roll(self.embed(padded), (1, 1), dims=(2, 3))
        flat = self.norm(tokens.flatten(2).transpose(1, 2))
        mixed = self.attention(flat, flat, flat, need_weights=False)[0].transpose(1, 2).reshape(tokens.shape)
        small = functional.interpolate(mixed, scale_factor=0.5, mode="bilinear")
        mixed = mixed + functional.interpolate(small, size=mixed.shape[-2:], mode="nearest")
        return (image + self.up(mixed)[..., :rows, :columns])[0, 0]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    auto = torch.export.Dim.AUTO
    kspace, mask = complex_example()
    pair = (torch.randn(2, 4, 48, 40, 2), torch.ones(2, 1, 1, 40, 1))
    batch = complex_example(batch=2)
    sizes = {0: auto, 1: auto, 2: auto, 3: auto}
    return {
        "one": (OneFrame(), export(folder / "one.pt2", OneFrame(), (kspace, torch.ones(1, 40)))),
        "real": (
            RealParts(),
            export(folder / "real.pt2", RealParts(), pair, {"kspace": sizes, "mask": {0: auto, 3: auto}}),
        ),
        "unrolled": (Unrolled(), export(folder / "unrolled.pt2", Unrolled(), (*batch, batch[0].clone()))),
        "attention": (attention := Attention(), export(folder / "attention.pt2", attention, (kspace, mask.float()))),
    }


def program_in(path) -> Program:
    archive = read_archive(path)
    return Program(archive.program, archive.tensors)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("one", (torch.randn(4, 48, 40, dtype=torch.complex64), (torch.arange(40) % 3 == 0)[None].float())),
        (
            "real",
            (
                torch.randn(3, 7, 33, 50, 2),
                (torch.arange(50) % 3 == 0).float().view(1, 1, 1, 50, 1).repeat(3, 1, 1, 1, 1),
            ),
        ),
        ("attention", (torch.randn(4, 48, 40, dtype=torch.complex64), torch.ones(48, 40))),
    ],
)
def test_programs_compute_what_torch_computes(archives, name, inputs):
    network, path = archives[name]
    program = program_in(path)
    with torch.inference_mode():
        expected = network(*inputs)
        for _ in range(2):  # nothing is left of the first run
            torch.testing.assert_close(program(*(tensor.clone() for tensor in inputs)), expected)


def test_weights_that_share_memory_keep_their_values(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Parameter(torch.arange(6.0).view(2, 3))
            self.second = nn.Parameter(self.first.detach()[1])

        def forward(self, kspace, mask):
            return kspace.abs().sum(dim=0) * mask * self.first.sum() + self.second.sum()

    path = export(tmp_path / "tied.pt2", Tied(), complex_example())
    tensors = read_archive(path).tensors
    assert tensors["second"].tolist() == [3.0, 4.0, 5.0]
    assert tensors["first"].shape == (2, 3)


def with_call(target, inputs=(), output="made"):
    def change(program):
        nodes = program["graph_module"]["graph"]["nodes"]
        nodes.insert(
            0, {"target": target, "inputs": list(inputs), "outputs": [{"as_tensor": {"name": output}}], "metadata": {}}
        )

    return change


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.ops.mine.attack.default",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.empty.memory_format",
        "torch.ops.aten.as_strided.default",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten.mul.__class__",
        "torch.ops.aten.__class__.default",
        "torch.ops.higher_order.while_loop",
        "_operator.pow",
        "_operator.attrgetter",
    ],
)
def test_only_operators_on_the_list_are_called(archives, tmp_path, target):
    path = rewritten(archives["one"][1], tmp_path / "a.pt2", with_call(target))
    with pytest.raises(ProgramError, match="the program calls"):
        program_in(path)


def test_the_list_of_operators_holds_what_torch_has_and_nothing_that_reads_files_or_draws_numbers():
    for name in ATEN - {"numpy_T", "meshgrid"}:
        assert hasattr(torch.ops.aten, name) or name.startswith("sym_"), name
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            tags = getattr(packet, overload).tags
            assert torch.Tag.nondeterministic_seeded not in tags or "dropout" in name or "attention" in name, (
                name,
                overload,
            )
    assert find("_operator.mul")(3, 4) == 12
    with pytest.raises(ProgramError, match="more than any array"):
        find("_operator.mul")(1 << 40, 1 << 40)


def named(name):
    return [{"name": "self", "arg": {"as_tensor": {"name": name}}, "kind": 1}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_call("torch.ops.aten.abs.default", named("nobody")), "nobody before it is made"),
        (with_call("torch.ops.aten.abs.default", named("kspace"), "kspace"), "makes kspace twice"),
        (
            with_call(
                "torch.ops.aten.abs.default",
                [{"name": "self", "arg": {"as_graph": {"name": "g", "graph": {}}}, "kind": 1}],
            ),
            "form as_graph",
        ),
        (lambda program: program["schema_version"].update(major=9), "the format 9"),
        (lambda program: program["graph_module"].pop("signature"), "damaged"),
        (
            lambda program: program["graph_module"]["signature"]["output_specs"].append(
                {"buffer_mutation": {"arg": {"name": "abs_1"}, "buffer_name": "b"}}
            ),
            "changes itself",
        ),
        (
            lambda program: program["graph_module"]["signature"]["output_specs"].append(
                {"user_output": {"arg": {"as_tensor": {"name": "abs_1"}}}}
            ),
            "returns 2 values",
        ),
        (
            lambda program: program["graph_module"]["signature"]["input_specs"][0]["parameter"].update(
                parameter_name="gone"
            ),
            "lacks the parameter gone",
        ),
        (
            lambda program: program["graph_module"]["signature"]["input_specs"].append(
                {"custom_obj": {"arg": {"name": "o", "class_fqn": "C"}, "custom_obj_name": "o"}}
            ),
            "takes a custom obj",
        ),
    ],
)
def test_damaged_programs(archives, tmp_path, change, message):
    path = rewritten(archives["one"][1], tmp_path / "a.pt2", change)
    with pytest.raises(ProgramError, match=message):
        program_in(path)


def test_text_in_a_program_is_never_evaluated(archives, tmp_path):
    """torch.export.load hands this text to sympy, which evaluates it."""
    attack = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).write_text('x')"

    def change(program):
        program["guards_code"] = [attack]
        size = {"as_expr": {"expr_str": attack, "hint": {"as_int": 40}}}
        program["graph_module"]["graph"]["tensor_values"]["kspace"]["sizes"][2] = size

    path = rewritten(archives["one"][1], tmp_path / "a.pt2", change)
    program = program_in(path)
    from recond_models.exported.signature import Signature

    with pytest.raises(ProgramError, match="a size of the program is"):
        Signature.of(program)
    assert not (tmp_path / "ran").exists()


def weights_table(change):
    def run(source):
        with zipfile.ZipFile(source) as archive:
            name = next(name for name in archive.namelist() if name.endswith("model_weights_config.json"))
            table = json.loads(archive.read(name))
        entry = next(iter(table["config"].values()))
        change(entry)
        return {"data/weights/model_weights_config.json": json.dumps(table).encode()}

    return run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry.update(use_pickle=True), "stored as a pickle"),
        (
            lambda entry: entry["tensor_meta"].update(sizes=[{"as_int": 1 << 20}] * 4, strides=[{"as_int": 0}] * 4),
            "more than",
        ),
        (lambda entry: entry["tensor_meta"].update(storage_offset={"as_int": 1000}), "does not lie within"),
        (lambda entry: entry["tensor_meta"].update(storage_offset={"as_int": -8}), "no size"),
        (lambda entry: entry["tensor_meta"].update(dtype=35), "damaged"),
        (lambda entry: entry.update(path_name="../../models/model.json"), "damaged"),
    ],
)
def test_damaged_weights(archives, tmp_path, change, message):
    source = archives["one"][1]
    path = rewritten(source, tmp_path / "a.pt2", members=weights_table(change)(source))
    with pytest.raises(ProgramError, match=message):
        read_archive(path)


def test_archives_that_are_none(archives, tmp_path):
    source = archives["one"][1]
    assert is_exported(source)
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.pt")
    assert not is_exported(tmp_path / "weights.pt")
    assert not is_exported(tmp_path / "missing.pt2")
    compressed = rewritten(source, tmp_path / "c.pt2", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ProgramError, match="compressed"):
        read_archive(compressed)
    two = rewritten(source, tmp_path / "two.pt2", members={"models/other.json": b"{}"})
    with pytest.raises(ProgramError, match="holds the programs"):
        read_archive(two)
    whole = source.read_bytes()
    (tmp_path / "cut.pt2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProgramError, match="damaged"):
        read_archive(tmp_path / "cut.pt2")
    nested = rewritten(source, tmp_path / "nested.pt2", members={"models/model.json": b"[" * 200_000})
    with pytest.raises(ProgramError, match="damaged"):
        read_archive(nested)


def test_a_program_is_the_same_after_it_was_read(archives):
    """Reading does not change what was read: the store writes it again."""
    archive = read_archive(archives["one"][1])
    before = copy.deepcopy(archive.program)
    Program(archive.program, archive.tensors)
    assert archive.program == before
