import json
import pickle

import numpy as np
import pytest

from recond_models.training import planes, prepare, tissues
from recond_models.training.volumes import (
    COLLECTED,
    PACKAGED,
    SOURCES,
    TISSUES,
    Source,
    Volume,
    VolumesNotFoundError,
    load_volumes,
)


def test_no_subject_is_in_two_splits():
    splits = {}
    for source in SOURCES:
        splits.setdefault(source.subject, set()).add(source.split)
    assert all(len(used) == 1 for used in splits.values()), splits
    assert {source.split for source in SOURCES} == {"training", "validation", "test"}
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    assert all(source.reason and source.licence and source.package for source in SOURCES)


def test_every_source_has_a_recipe():
    assert prepare.sources() == PACKAGED
    assert (*PACKAGED, *COLLECTED) == SOURCES


def test_a_volume_survives_the_disc_and_the_pipe(tmp_path, head):
    source = SOURCES[0]
    volume = Volume(source, head.voxels, head.has_tissues, head.spacing, head.centre)
    volume.save(tmp_path)
    (loaded,) = load_volumes(tmp_path, "training")
    sent = pickle.loads(pickle.dumps(loaded))  # noqa: S301 - as a worker gets it
    for other in (loaded, sent):
        assert np.array_equal(other.voxels, head.voxels)
        assert (other.spacing, other.centre, other.source) == (head.spacing, head.centre, source)
    # The pipe carries the place of the file, not the voxels.
    assert len(pickle.dumps(loaded)) < 2000


def test_missing_and_old_volumes_are_named(tmp_path, head):
    with pytest.raises(VolumesNotFoundError, match=r"brainbrowser-1.*make training-data"):
        load_volumes(tmp_path, "test")
    with pytest.raises(ValueError, match="'held-out'"):
        load_volumes(tmp_path, "held-out")
    Volume(SOURCES[0], head.voxels, True, head.spacing, head.centre).save(tmp_path)
    path = tmp_path / f"{SOURCES[0].name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"volume": 1}))
    with pytest.raises(VolumesNotFoundError, match="colin27"):
        Volume.load(tmp_path, SOURCES[0])


def test_wrong_arrays_are_refused():
    source = Source("a", "b", "training", "MIT", "none", "test")
    signal = np.zeros((4, 5, 6), dtype=np.float32)
    with pytest.raises(ValueError, match=r"\(5, 4, 5, 6\)"):
        Volume.of(source, signal, np.zeros((4, 4, 5, 6), dtype=np.uint8), (1, 1, 1), (2, 2, 3))
    with pytest.raises(ValueError, match="7"):
        Volume.of(source, signal + 7, None, (1, 1, 1), (2, 2, 3))


def test_cut_interpolates_linearly_along_the_patients_axes():
    x, y, z = np.meshgrid(np.arange(9), np.arange(10), np.arange(11), indexing="ij")
    source = Source("a", "b", "training", "MIT", "none", "test")
    maps = np.zeros((len(TISSUES), 9, 10, 11), dtype=np.uint8)
    maps[1] = 10 * x
    maps[4] = 10 * z
    volume = Volume.of(source, (x + 2 * y + 3 * z) / 60, maps, (1.0, 2.0, 0.5), (4.0, 5.0, 5.0))
    points = np.array([[[1.25, -3.0]], [[2.5, 0.0]], [[-0.75, 40.0]]], dtype=np.float32)
    signal, shares = planes.cut(volume, points)
    assert signal[0, 0] == pytest.approx((5.25 + 2 * 6.25 + 3 * 3.5) / 60, abs=3e-5)
    assert shares[1, 0, 0] == pytest.approx(52.5 / 255, abs=1e-5)
    assert shares[4, 0, 0] == pytest.approx(35 / 255, abs=1e-5)
    # Outside of the grid is air.
    assert signal[0, 1] == 0
    assert not shares[:, 0, 1].any()


def test_planes_are_as_large_as_the_head(head):
    box = planes.HeadBox.around(head)
    assert box.size == pytest.approx([153, 194, 153], abs=10)
    assert box.middle == pytest.approx([0, 0, 0], abs=6)
    generator = np.random.default_rng(0)
    for _ in range(20):
        plane = planes.draw_plane(generator, (128, 192), box, 2.0)
        view = np.array([128 * np.linalg.norm(plane.down), 192 * np.linalg.norm(plane.across)])
        assert (view > 135).all()
        assert abs(plane.down @ plane.across) < 1e-9


def test_tissues_are_found_by_signal_and_place():
    generator = np.random.default_rng(0)
    truth = np.repeat(np.eye(6, dtype=np.float32), 4, axis=1)[:, :, None, None] * np.ones(
        (1, 1, 20, 20), dtype=np.float32
    )
    levels = np.array([0.5, 0.8, 0.2, 0.05, 0.65, 0.0])
    signal = np.tensordot(levels, truth, axes=1) + generator.normal(0, 0.03, truth.shape[1:])
    priors = 0.5 * truth + 0.5 / 6
    found = tissues.posteriors(signal.astype(np.float32), priors)
    names = np.concatenate([found, 255 - found.sum(axis=0, keepdims=True)]).argmax(axis=0)
    assert (names == np.repeat(np.arange(6), 4)[:, None, None]).mean() > 0.95


def test_a_bare_brain_gets_layers_from_the_inside_out():
    x, y, z = np.meshgrid(*[np.arange(-50, 50)] * 3, indexing="ij")
    signal = np.where(np.sqrt(x**2 + y**2 + z**2) < 25, 0.8, 0).astype(np.float32)
    head, maps = tissues.add_head(signal, tissues.shares(signal, (0.6, 0.85)), (1.0, 1.0, 1.0))
    along = maps[:, 50:, 50, 50]
    assert along[:3, :20].sum() > 0.95 * 255 * 20
    peaks = [int(along[kind, 25:].argmax()) for kind in (2, 3, 4)]
    assert peaks == sorted(peaks)
    assert peaks[2] > peaks[0] + 4
    assert head[50, 50, 99] == 0
    assert np.array_equal(head[signal > 0], signal[signal > 0])
