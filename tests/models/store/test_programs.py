"""Exported programs in the store: tried out where they can do no harm, kept as data, verified on every load."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from exported_programs import (
    OneFrame,
    Unrolled,
    WholeBatch,
    complex_example,
    export,
    one_frame_file,
    rewritten,
    saved,
    unrolled_file,
)
from safetensors.torch import load_file
from torch import nn

from recond_models import loading, registry
from recond_models.contract import Contract
from recond_models.exported.errors import ProgramError
from recond_models.finishing import magnitudes
from recond_models.store import golden, trial_process
from recond_models.store.add import AddRequest, add_model
from recond_models.store.errors import (
    DamagedModelError,
    GoldenMismatchError,
    HashMismatchError,
    ProgramRefusedError,
    StoreError,
    TrialError,
    UnsafeFileError,
    WeightsNotFiniteError,
)
from recond_models.store.trial import TrialLimits


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    return {"unrolled": unrolled_file(folder / "unrolled.pt2"), "one": one_frame_file(folder / "one.pt2")}


def tried(path, contract: Contract | None = None):
    """What the trial does, without the process around it."""
    return trial_process.try_out({"path": str(path), "name": "theirs", "contract": (contract or Contract()).to_json()})


def test_add_load_and_add_the_folder_again(files, models, tmp_path):
    added = add_model(AddRequest(files["unrolled"], name="theirs", contract=Contract(anatomy="knee"), licence="MIT"))
    info = registry.find("theirs")
    assert (info.family, info.origin, info.licence, info.has_phase, info.fits_samples) == (
        "exported",
        "added",
        "MIT",
        True,
        False,
    )
    assert info.needs_calibration
    assert (info.contract.coils, info.contract.rows, info.contract.anatomy) == ((2, 16), (16, 256), "knee")
    manifest = added.packaged.manifest
    assert manifest.architecture["kspace"] == "complex64 (batch, coils, rows, columns)"
    assert manifest.architecture["together"] is True
    assert manifest.parameters == sum(tensor.numel() for tensor in Unrolled().state_dict().values())
    folder = models / "theirs"
    assert "Takes: k-space complex64 (batch, coils, rows, columns)" in (folder / "card.md").read_text()
    assert not any(zipfile.is_zipfile(file) for file in folder.iterdir())  # nothing of the archive, nothing pickled
    batch = golden.make_input(Contract(coils=(5, 5)))
    image = magnitudes(loading.load("theirs").reconstruct(batch))

    copy = add_model(AddRequest(folder, name="copy", version="2"))
    assert copy.packaged.manifest.weights_sha256 == info.weights_sha256
    assert torch.equal(magnitudes(loading.load("copy").reconstruct(batch)), image)

    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b"conv2d", b"conv3d"))  # another program among the same weights
    with pytest.raises(DamagedModelError, match="has changed since"):
        loading.load("theirs")
    with pytest.raises(HashMismatchError):
        add_model(AddRequest(folder, name="again"))


def test_fixed_sizes(files):
    facts, data, pair = tried(files["one"])
    contract = Contract.from_json(facts["contract"])
    assert (contract.coils, contract.rows, contract.columns) == ((4, 4), (80, 80), (64, 64))
    assert facts["architecture"]["together"] is False
    assert len(data) > 1000
    assert len(pair) > 1000


def test_programs_that_mix_the_frames_of_a_batch_get_one_at_a_time(tmp_path):
    auto = torch.export.Dim.AUTO
    sizes = {"kspace": {0: auto, 1: auto, 2: auto, 3: auto}, "mask": {0: auto, 1: auto, 2: auto}}
    path = export(tmp_path / "whole.pt2", WholeBatch(), complex_example(batch=2), sizes)
    facts, _, _ = tried(path)
    assert facts["architecture"]["together"] is False


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("where", ["sample inputs", "weights", "constants", "compiled"])
def test_archives_that_bring_code(files, tmp_path, where):
    marker = tmp_path / "ran"
    members = {
        "sample inputs": {"data/sample_inputs/model.pt": saved(((Trap(marker),), {}))},
        "weights": {"data/weights/weight_0": saved(Trap(marker))},
        "constants": {"data/constants/opaque_obj_0": pickle.dumps(Trap(marker))},
        "compiled": {"data/aotinductor/model/wrapper.so": b"\x7fELF"},
    }[where]
    path = rewritten(files["one"], tmp_path / "trap.pt2", members=members)
    named = {"constants": "opaque_obj_0", "compiled": r"wrapper\.so"}.get(where, r"posix\.system")
    with pytest.raises(UnsafeFileError, match=named):
        tried(path)
    assert not marker.exists()


class Steps(nn.Module):
    """Whatever a function makes of k-space and mask."""

    def __init__(self, what, **tensors) -> None:
        super().__init__()
        self.what = what
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, kspace, mask):
        return self.what(self, kspace, mask)


def forever(network, kspace, mask):
    large = kspace.abs().sum(dim=0).sum() * torch.ones(3000, 3000)
    for _ in range(200):
        large = torch.sin(large @ large)
    return kspace.abs().sum(dim=0) * mask + large.sum()


def everything(network, kspace, mask):
    return kspace.abs().sum(dim=0) * mask + torch.ones(60_000, 60_000, 8).sum()


@pytest.mark.parametrize(
    ("what", "limits", "message"),
    [
        (forever, TrialLimits(seconds=2), "not done with two small frames after 2 s"),
        (everything, TrialLimits(memory_bytes=1 << 30), "needs more than the 10.. MiB"),
    ],
)
def test_programs_without_bounds_are_ended(tmp_path, what, limits, message):
    # Exporting computes nothing: it traces with tensors that have no memory.
    path = export(tmp_path / "a.pt2", Steps(what), complex_example(4, 80, 64))
    with pytest.raises(TrialError, match=message):
        add_model(AddRequest(path, name="theirs", limits=limits))
    assert "theirs" not in [info.name for info in registry.available()]


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        ("signature", ProgramError, "the program returns mul"),
        ("operator", ProgramError, r"aten\.rand"),
        ("zeros", GoldenMismatchError, "makes no image"),
        ("nan", WeightsNotFiniteError, "holds NaN"),
        ("damaged", ProgramRefusedError, "damaged"),
        ("compressed", ProgramError, "compressed"),
    ],
)
def test_refusals(files, tmp_path, case, error, message):
    kspace, mask = complex_example(4, 80, 64)
    path = tmp_path / "a.pt2"
    if case == "signature":
        export(path, Steps(lambda _, kspace, mask: kspace.abs() * mask), (kspace, mask))
    elif case == "operator":
        export(path, Steps(lambda _, kspace, mask: kspace.abs().sum(0) * mask * torch.rand(64)), (kspace, mask))
    elif case == "zeros":
        export(path, Steps(lambda _, kspace, mask: kspace.abs().sum(0) * mask * 0), (kspace, mask))
    elif case == "nan":
        network = Steps(
            lambda network, kspace, mask: kspace.abs().sum(0) * mask * network.w, w=torch.tensor([torch.nan])
        )
        export(path, network, (kspace, mask))
    elif case == "damaged":
        rewritten(files["one"], path, members={"models/model.json": b"{}"})
    else:
        rewritten(files["one"], path, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(error, match=message):
        tried(path)


def test_refusals_reach_whoever_adds(files, models, tmp_path):
    path = rewritten(files["one"], tmp_path / "a.pt2", members={"models/model.json": b"{}"})
    with pytest.raises(ProgramRefusedError, match="damaged"):
        add_model(AddRequest(path, name="theirs"))
    with pytest.raises(HashMismatchError):
        add_model(AddRequest(files["one"], name="theirs", sha256="0" * 64))
    assert not (models / "theirs").exists()


def test_a_program_that_changes_its_weights(tmp_path):
    """In place, through a view, which the signature of the program does not tell."""

    def change(program):
        nodes = program["graph_module"]["graph"]["nodes"]
        nodes.insert(
            0,
            {
                "target": "torch.ops.aten.mul_.Scalar",
                "inputs": [
                    {"name": "self", "arg": {"as_tensor": {"name": "p_step_0_weight"}}, "kind": 1},
                    {"name": "other", "arg": {"as_float": 0.5}, "kind": 1},
                ],
                "outputs": [{"as_tensor": {"name": "made"}}],
                "metadata": {},
            },
        )

    source = export(tmp_path / "one.pt2", OneFrame(), (complex_example(4, 80, 64)[0], torch.ones(1, 64)))
    with pytest.raises(StoreError, match="changes its weights"):
        tried(rewritten(source, tmp_path / "a.pt2", change))


def test_what_is_kept_of_a_program_is_data(files, models):
    add_model(AddRequest(files["one"], name="theirs"))
    tensors = load_file(models / "theirs" / "weights.safetensors")
    kept = json.loads(tensors["recond.program.json"].numpy().tobytes())
    assert set(kept) == {"graph_module", "range_constraints", "schema_version", "torch_version"}
    assert all(set(node) == {"target", "inputs", "outputs"} for node in kept["graph_module"]["graph"]["nodes"])
