"""Files of weights of every kind are read; files that hold anything else are refused, and nothing in them runs."""

import hashlib
import io
import os
import pickle
import zipfile
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from model_files import UNET, VARNET, state_file, weights_of
from safetensors.torch import save_file

from recond_models.store.architecture import recognise
from recond_models.store.errors import (
    HashMismatchError,
    UnreadableFileError,
    UnsafeFileError,
    WeightsNotFiniteError,
    WrongKeysError,
)
from recond_models.store.weights import as_float32, read_weights

STATE = weights_of()


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def wrapped(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in STATE.items()}


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("ending", ["pt", "pth", "ckpt"])
def test_bare_state_dict(tmp_path, ending):
    path = state_file(tmp_path, STATE, f"net.{ending}")
    file = read_weights(path)
    assert same(file.tensors, STATE)
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert file.size == path.stat().st_size


def test_safetensors_by_its_bytes_whatever_its_name(tmp_path):
    save_file(STATE, tmp_path / "net.pt")
    assert same(read_weights(tmp_path / "net.pt").tensors, STATE)


def test_the_older_format_of_torch(tmp_path):
    torch.save(STATE, tmp_path / "net.pt", _use_new_zipfile_serialization=False)
    assert same(read_weights(tmp_path / "net.pt").tensors, STATE)


@pytest.mark.parametrize("prefix", ["varnet.", "model.", "module.varnet.", "_orig_mod."])
def test_lightning_checkpoint(tmp_path, prefix):
    content = {
        "state_dict": {**wrapped(prefix), "loss.w": torch.ones(1, 1, 7, 7)},
        "epoch": 49,
        "optimizer_states": [{"lr": 3e-4}],
        "hyper_parameters": {"chans": 4},
    }
    torch.save(content, tmp_path / "epoch=49.ckpt")
    found = recognise(read_weights(tmp_path / "epoch=49.ckpt").tensors)
    assert found.architecture == VARNET
    assert found.prefix == prefix
    assert found.left_out == ("loss.w",)
    assert same(found.tensors, STATE)


def test_unet():
    state = weights_of(UNET)
    assert recognise(state).architecture == UNET
    assert recognise({f"unet.{name}": tensor for name, tensor in state.items()}).architecture == UNET


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("form", ["archive", "older", "pickle"])
def test_code_does_not_run(tmp_path, form, protocol):
    mark, path = tmp_path / "it-ran", tmp_path / "net.pt"
    content = {**STATE, "extra": Bomb(mark)}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"extra": Bomb(mark)}, protocol))
    else:
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=form == "archive")
    with pytest.raises(UnsafeFileError, match=r"would run code that the file names \(posix\.mkdir\).*torch\.save"):
        read_weights(path)
    assert not mark.exists()


def test_harmless_objects_are_refused_too(tmp_path):
    torch.save({"state_dict": STATE, "hyper_parameters": Namespace(chans=4)}, tmp_path / "net.ckpt")
    with pytest.raises(UnsafeFileError, match=r"argparse\.Namespace.*safetensors"):
        read_weights(tmp_path / "net.ckpt")


def test_the_hash_is_compared_before_anything_is_read(tmp_path):
    path = state_file(tmp_path, STATE)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_weights(path, right.upper()).sha256 == right
    mark = tmp_path / "it-ran"
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(HashMismatchError, match=f"expected {right}.*get it again"):
        read_weights(path, right)
    assert not mark.exists()


def damaged(kind: str, path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "short": data[: len(data) // 2],
            "text": b"<html>404 Not Found</html>",
            "zeros": bytes(1000),
            "archive": _archive({"readme.txt": b"hello"}, zipfile.ZIP_STORED),
            "compressed": _archive({"net/data.pkl": data}, zipfile.ZIP_DEFLATED),
            "safetensors": (50).to_bytes(8, "little") + b'{"a":' + bytes(45),
            "list": _saved([torch.ones(3)]),
            "tensor": _saved(torch.ones(3)),
            "numbers": _saved({"a": 3}),
            "keys": _saved({3: torch.ones(3)}),
            "nothing": _saved({}),
            "sparse": _saved({"a": torch.eye(3).to_sparse()}),
            "meta": _saved({"a": torch.empty(3, device="meta")}),
            "huge": _saved({"a": torch.ones(1).expand(1 << 40)}),
        }[kind]
    )


def _archive(members: dict[str, bytes], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind",
    [
        *("empty", "short", "text", "zeros", "archive", "compressed", "safetensors"),
        *("list", "tensor", "numbers", "keys", "nothing", "sparse", "meta", "huge"),
    ],
)
def test_other_files(tmp_path, kind):
    path = state_file(tmp_path, STATE)
    damaged(kind, path)
    with pytest.raises(UnreadableFileError) as refusal:
        read_weights(path)
    assert len(str(refusal.value)) < 600


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, what in (
        (tmp_path, "is a folder"),
        (tmp_path / "none", "does not exist"),
        (tmp_path / "pipe", "is no file"),
    ):
        with pytest.raises(UnreadableFileError, match=what):
            read_weights(path)
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate((2 << 30) + 1)
    with pytest.raises(UnreadableFileError, match="2147483649 bytes, more than"):
        read_weights(big)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("cascades.1.dc_weight"),
            r"varnet \(cascades 2, channels 4.*1 missing \(cascades\.1\.dc_weight\)",
        ),
        (lambda s: s.update({"extra.weight": torch.ones(3)}), r"1 unknown \(extra\.weight\)"),
        (
            lambda s: s.update({"cascades.1.model.unet.conv.layers.0.weight": torch.ones(3, 3)}),
            r"1 of another shape \(cascades\.1\.model\.unet\.conv\.layers\.0\.weight is \(3, 3\) and should be \(16, 8, 3, 3\)\)",
        ),
        (
            lambda s: s.update({"cascades.1.dc_weight": torch.ones(1, dtype=torch.int64)}),
            r"dc_weight holds torch\.int64",
        ),
    ],
)
def test_wrong_keys_are_named(change, message):
    state = dict(STATE)
    change(state)
    with pytest.raises(WrongKeysError, match=message):
        recognise(state)


def test_weights_of_other_networks_name_the_nearest():
    with pytest.raises(WrongKeysError, match=r"no network that is known here.*unet.*varnet.*None of their names"):
        recognise({"conv1.weight": torch.ones(3), "fc.bias": torch.ones(3)})
    without_start = {name: tensor for name, tensor in STATE.items() if not name.startswith("sens_net.")}
    with pytest.raises(WrongKeysError, match=r"The nearest is a varnet \(cascades 12.*missing \(sens_net\."):
        recognise(without_start)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers(value):
    state = {name: tensor.clone() for name, tensor in STATE.items()}
    state["cascades.1.dc_weight"][0] = value
    with pytest.raises(WeightsNotFiniteError, match=r"1 of 1 weights of cascades\.1\.dc_weight.*earlier checkpoint"):
        as_float32(state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype):
    converted = as_float32({name: tensor.to(dtype) for name, tensor in STATE.items()})
    for name, tensor in converted.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, STATE[name].to(dtype).to(torch.float32), rtol=0, atol=0)
