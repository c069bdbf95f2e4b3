import nibabel
import numpy as np
import pytest
from click.testing import CliRunner

from recond_models.training import packages
from recond_models.training.collection import prepare_collected
from recond_models.training.volumes import COLLECTED, load_volumes


def source(name):
    return next(one for one in COLLECTED if one.name == name)


def ball(shape):
    grids = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    return np.sqrt(sum(grid**2 for grid in grids))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    generator = np.random.default_rng(0)

    def save(path, values, spacing):
        nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), np.diag([*spacing, 1.0])), path)

    volume = 800 * (ball((40, 44, 40)) < 0.8) + generator.normal(0, 20, (40, 44, 40))
    save(tmp_path / "images" / "seg3d_T1.nii.gz", volume, (2.0, 2.0, 2.0))
    disc = 800 * (ball((96, 96)) < 0.8)
    slices = np.repeat(disc[:, :, None], 6, axis=2) + generator.normal(0, 20, (96, 96, 6))
    save(tmp_path / "images" / "torchio_T2.nii.gz", slices, (0.5, 0.5, 5.0))
    scale = np.float32(1e-3)
    np.savez(
        tmp_path / "images" / "lowfield_pair_6A_3T_T1w.npz",
        image=np.repeat(disc[None], 4, axis=0).astype(np.uint16),
        scale=scale,
    )
    structures = np.select([ball((30, 30, 30)) < 0.5, ball((30, 30, 30)) < 0.8], [2, 511], 0)
    save(tmp_path / "labels" / "heads_training_seg_01.nii.gz", structures, (1.0, 1.0, 1.0))
    return tmp_path


def test_volumes_lose_noise_and_air(folder):
    volume = prepare_collected(source("seg3d_T1"), folder)
    assert volume.voxels.dtype == np.uint16
    assert all(30 <= size <= 44 for size in volume.shape)
    inner = volume.voxels[15:25, 15:25, 15:25] / 40_000
    assert inner.mean() == pytest.approx(0.95, abs=0.08)
    assert inner.std() < 0.5 * 20 / 800
    assert volume.voxels[0, 0, 0] == 0


def test_fine_slices_are_averaged_and_stay_slices(folder):
    volume = prepare_collected(source("torchio_T2"), folder)
    assert volume.source.layout == "slices"
    assert volume.shape[2] == 6
    assert volume.spacing == pytest.approx((0.85, 0.85, 5.0), rel=0.03)
    assert max(volume.shape[:2]) <= 57


def test_exports_of_single_slices_are_read(folder):
    volume = prepare_collected(source("lowfield_pair_6A_3T_T1w"), folder)
    assert volume.shape[2] == 4
    assert volume.spacing[0] * 96 > 200


def test_label_maps_are_cropped_and_numbered(folder):
    volume = prepare_collected(source("heads_training_seg_01"), folder)
    assert volume.has_labels
    assert set(np.unique(volume.voxels)) == {0, 2, 115}
    assert volume.centre == pytest.approx([(size - 1) / 2 for size in volume.shape], abs=0.1)


def test_what_is_not_there_is_named_and_the_rest_converted(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "fetch", lambda place: [])
    monkeypatch.setattr(packages, "sources", tuple)
    out = tmp_path / "out"
    out.mkdir()
    result = CliRunner().invoke(packages.main, [str(out)], env={"RECOND_TRAINING_COLLECTION": str(folder)})
    assert result.exit_code == 1
    assert "studyforrest_T1" in result.output
    assert f"{len(COLLECTED) - 4} of {len(COLLECTED)} volumes are missing" in result.output
    assert {volume.source.name for volume in load_volumes(out, "training")} == {
        "seg3d_T1", "torchio_T2", "heads_training_seg_01",
    }  # fmt: skip
