"""Attention maps over the wire, through a service: in results, in files, and where a head has none."""

import asyncio
import gzip
import importlib.util
import io
import json

import h5py
import nibabel
import numpy as np
import pytest
import torch
from exported_heads import Classes, write_bundle
from head_packages import tissue_contract, write_brightness_head

import recond_client
from recond_client import aio
from recond_models import loading
from recond_models.heads.attention import on_image
from recond_models.heads.contract import HeadClass, HeadContract, HeadGroup
from recond_models.heads.framing import frame_slice
from recond_models.heads.series_network import OUTPUTS
from recond_models.simulate.head import head_slices
from recond_models.store.add import AddRequest, add_model
from recond_models.store.place import remove_model

TISSUE, MINE = "bright-tissue-attention", "mine-attention"
SLICES = 12


@pytest.fixture(scope="module", autouse=True)
def heads(added_models, tmp_path_factory):
    """A head that labels pixels, and a classification of another architecture."""
    write_brightness_head(added_models, TISSUE, tissue_contract(anatomy=""))
    groups = (HeadGroup("load", (HeadClass("low"), HeadClass("high"))),)
    contract = HeadContract("classification", groups, slices=1, pixel_mm=0)
    bundle = write_bundle(tmp_path_factory.mktemp("bundle") / MINE, Classes(1, 2), contract, (160, 160), name=MINE)
    add_model(AddRequest(bundle))
    yield
    for name in (TISSUE, MINE):
        remove_model(added_models, name)


@pytest.fixture
def client(service):
    with recond_client.Client(service.address) as made:
        yield made


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    """The average head of MNI152, (slices, rows, columns)."""
    if importlib.util.find_spec("nilearn") is None:
        pytest.skip("the head is not installed: pip install --no-deps nilearn")
    return head_slices(SLICES, 120, 110, 240.0, 6.0).images.astype(np.float32)


def nifti(values: np.ndarray) -> bytes:
    """Return a file of (slices, rows, columns), whose first axis is the columns."""
    affine = np.diag([-2.0, -2.0, 6.0, 1.0])
    return gzip.compress(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine).to_bytes())


def test_maps_are_the_contributions_to_the_score_that_was_answered(client, head):
    plain = client.analyze(nifti(head), heads=["series"])
    analysis = client.analyze(nifti(head), heads=["series"], attention=True, outputs=(".nii.gz", ".h5"))
    series, before = analysis.heads["series"], plain.heads["series"]
    assert (series.answers, series.scores, before.attention) == (before.answers, before.scores, {})
    assert set(series.attention) == set(OUTPUTS)
    assert series.attention_classes["contrast"] == series.answers["contrast"] == "T1"
    shape = analysis.shape[1:]
    assert {values.shape for values in series.attention.values()} == {(len(series.images), *shape)}
    # The same again without a service.
    ready = loading.load_head("series", device="cpu")
    block = np.ascontiguousarray(head.transpose(0, 2, 1)[list(series.images)])
    framing = frame_slice(block)
    _, contributions = ready.explain(torch.from_numpy(block), framing)
    assert np.allclose(series.attention["contrast"], on_image(contributions[:, 0].numpy(), framing), atol=1e-3)
    with h5py.File(_saved(analysis, ".h5")) as file:
        stored = file["heads/series/attention/contrast"]
        assert np.array_equal(stored[()][list(series.images)], series.attention["contrast"])
        assert stored.attrs["unit"] == "contribution to the logit"
        classes = [name.decode() for name in stored.attrs["classes"]]
        assert {classes[number] for number in series.images} == {"T1"}
        assert sum(name == "" for name in classes) == SLICES - len(series.images)
        assert "failed-reconstruction" in file["heads/series/attention"]
    volume = nibabel.Nifti1Image.from_bytes(gzip.decompress(analysis.files["_series_attention-contrast.nii.gz"]))
    assert volume.shape == head.transpose(2, 1, 0).shape
    assert np.array_equal(volume.affine, np.diag([-2.0, -2.0, 6.0, 1.0]))
    assert "_series_attention-failed-reconstruction.nii.gz" in analysis.files


def _saved(analysis: recond_client.Analysis, ending: str):
    return io.BytesIO(analysis.files[ending])


def test_heads_without_attention_maps_say_so_and_have_their_results(client, head):
    analysis = client.analyze(nifti(head), heads=[MINE, TISSUE], attention=True, outputs=(".nii.gz",))
    assert (analysis.heads[MINE].refusal, analysis.heads[MINE].attention) == ("", {})
    assert analysis.heads[TISSUE].label_map is not None
    (told,) = [finding for finding in analysis.findings if finding.code == "attention-none"]
    assert MINE in told.message
    assert list(analysis.files) == [f"_{TISSUE}.nii.gz"]


def scan(tmp_path):
    from click.testing import CliRunner

    from recond_models.simulate.commands import simulate

    path = tmp_path / "scan.h5"
    options = ["--phantom", "shepp-logan", "--slices", "4", "--coils", "3", "--matrix", "96", "--acceleration", "1"]
    assert CliRunner().invoke(simulate, ["-o", str(path), *options]).exit_code == 0
    return path


def test_a_scan_that_is_reconstructed_has_attention_maps(service, client, tmp_path):
    path = scan(tmp_path)
    options = {"model": "rss", "heads": ["series"], "attention": True, "outputs": (".h5", ".nii.gz")}
    result = client.reconstruct(path, **options)
    series = result.heads["series"]
    assert series.attention["contrast"].shape == (len(series.images), *result.images.shape[1:])
    assert [each.attention for each in result.head_results if not each.stack] == [{}] * len(result.images)
    assert {".h5", ".nii.gz", "_series_attention-plane.nii.gz"} <= set(result.files)

    async def again() -> recond_client.Result:
        async with aio.Client(service.address) as other:
            return await other.reconstruct(path, **options)

    twin = asyncio.run(again()).heads["series"]
    assert np.array_equal(twin.attention["plane"], series.attention["plane"])


def test_attention_on_the_command_line(service, tmp_path, monkeypatch, head):
    from click.testing import CliRunner

    from recond_client.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "head.nii.gz").write_bytes(nifti(head))
    common = ["--heads", "series", "--attention", "--json", "--server", service.address]
    analyzed = CliRunner().invoke(main, ["analyze", "head.nii.gz", "-o", "out.nii.gz", *common])
    assert analyzed.exit_code == 0, analyzed.output
    assert "out_series_attention-contrast.nii.gz" in json.loads(analyzed.stdout)["outputs"]
    assert nibabel.load("out_series_attention-contrast.nii.gz").shape == (110, 120, SLICES)
    scan(tmp_path)
    reconstructed = CliRunner().invoke(
        main, ["reconstruct", "scan.h5", "--model", "rss", "-o", "recon.nii.gz", *common]
    )
    assert reconstructed.exit_code == 0, reconstructed.output
    assert "recon_series_attention-anatomy.nii.gz" in json.loads(reconstructed.stdout)["outputs"]
