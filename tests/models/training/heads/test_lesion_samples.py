import numpy as np
import pytest

from recond_models.training.heads.bank import SITES, LesionHead, from_labels, from_signal, load_heads
from recond_models.training.heads.lesion_samples import BRIGHT, CLASSES, ENHANCED, LesionSamples
from recond_models.training.heads.lesion_volumes import draw_lesion_volume
from recond_models.training.heads.looks import draw_look
from recond_models.training.heads.planning import FREE_SHARE, Planned, plan
from recond_models.training.heads.samples import IGNORED
from recond_models.training.heads.scenes import compose
from recond_models.training.heads.stacks import draw_stack
from recond_models.training.volumes import VolumesNotFoundError

from .conftest import measured_volume, radius_of

SIZE = (64, 64)


def test_a_sample_is_five_slices_and_the_classes_of_the_middle_one(map_head, measured_head):
    samples = LesionSamples([map_head, measured_head], SIZE)
    assert samples.classes == len(CLASSES) == 3
    seen: set[int] = set()
    for seed in range(30):
        sample = samples.draw(np.random.default_rng(seed))
        assert sample.image.shape == (5, *SIZE)
        assert sample.image.dtype == np.float32
        assert np.isfinite(sample.image).all()
        assert sample.image.min() >= 0
        assert sample.target.shape == SIZE
        assert sample.target.dtype == np.uint8
        seen |= set(np.unique(sample.target).tolist())
    assert seen == {0, ENHANCED, BRIGHT, IGNORED}


def test_the_same_generator_makes_the_same_sample(map_head, measured_head):
    samples = LesionSamples([map_head, measured_head], SIZE)
    first, second = (samples.draw(np.random.default_rng(11)) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.target, second.target)
    assert not np.array_equal(first.image, samples.draw(np.random.default_rng(12)).image)


def test_three_of_ten_plans_are_without_lesions_and_none_is_enhancing_without_contrast_agent(map_head):
    generator = np.random.default_rng(0)
    for weighting in ("t1post", "flair", "t2"):
        free = np.mean([not plan(generator, map_head, weighting) for _ in range(400)])
        assert abs(free - FREE_SHARE) < 0.07
    assert not any(plan(generator, map_head, "t1") for _ in range(40))


def scene_with(head: LesionHead, weighting: str, planned: list[Planned], seed: int = 0):
    generator = np.random.default_rng(seed)
    look = draw_look(generator, weighting)  # type: ignore[arg-type]
    stack = draw_stack(generator, head, np.array([0.0, 20.0, 0.0]), SIZE, "axial")
    return compose(generator, head, look, stack, planned), look


@pytest.mark.parametrize("weighting", ["t1post", "flair", "t2"])
def test_a_lesion_is_brighter_than_the_white_matter_around_it(map_head, weighting):
    planned = [Planned("solid", 6.0, np.array([0.0, 20.0, 0.0]), None)]
    brighter = []
    for seed in range(6):
        scene, look = scene_with(map_head, weighting, planned, seed)
        inside = scene.share[2] > 0.9
        assert inside.any()
        assert (scene.owner[2][inside] == 1).all()
        brighter.append(float(np.median(scene.image[2][inside])) / look.white)
    assert min(brighter) > 1.05


def test_oedema_counts_where_it_is_bright_and_not_after_contrast(map_head):
    planned = [Planned("ring", 6.0, np.array([0.0, 20.0, 0.0]), None)]
    areas = {}
    for weighting in ("t1post", "flair"):
        scenes = [scene_with(map_head, weighting, planned, seed)[0] for seed in range(6)]
        lesions = [scene.lesions[0] for scene in scenes]
        assert any(lesion.oedema > 0 for lesion in lesions)
        areas[weighting] = sum(float((scene.share[2] > 0.5).sum()) for scene in scenes)
    assert areas["flair"] > 1.3 * areas["t1post"]


def test_lesions_that_are_known_are_the_truth_where_they_show_and_do_not_count_elsewhere():
    radius = radius_of((60, 70, 60))
    lesion = (radius > 0.3) & (radius < 0.4)
    target_of = {}
    for contrast in ("flair", "t1post"):
        head = from_signal(measured_volume(), contrast, radius < 0.75, lesion)  # type: ignore[arg-type]
        samples = LesionSamples([head], SIZE)
        targets = [samples.draw(np.random.default_rng(seed)).target for seed in range(12)]
        target_of[contrast] = np.concatenate([target.ravel() for target in targets])
    assert (target_of["flair"] == BRIGHT).sum() > 300
    assert (target_of["t1post"] == IGNORED).sum() > 300


def test_sites_lie_where_their_names_say(map_head):
    assert set(map_head.sites) == set(SITES)
    radius = {name: np.linalg.norm(places / [90, 105, 90], axis=1) for name, places in map_head.sites.items()}
    assert radius["white"].max() < 0.52
    assert radius["ventricle"].max() < 0.27
    assert radius["dura"].min() > 0.68
    assert map_head.sites["fossa"][:, 2].max() < -24


def test_a_head_is_loaded_as_it_was_saved_and_held_out_ones_apart(tmp_path, map_head, measured_head):
    for head in (map_head, measured_head):
        head.save(tmp_path)
    names = [head.name for head in load_heads(tmp_path, held_out=False)]
    assert names == ["map", "measured"]
    loaded = LesionHead.load(tmp_path, "measured")
    assert np.array_equal(loaded.voxels, measured_head.voxels)
    assert (loaded.levels, loaded.spacing) == (measured_head.levels, measured_head.spacing)
    assert np.array_equal(loaded.sites["any"], measured_head.sites["any"])
    with pytest.raises(VolumesNotFoundError):
        load_heads(tmp_path, held_out=True)


def test_signals_of_tissues_are_found(measured_head):
    assert measured_head.levels == pytest.approx((0.2, 0.55, 0.8), abs=0.06)
    with pytest.raises(ValueError, match="map of structures"):
        from_labels(measured_volume())
    with pytest.raises(ValueError, match="no head"):
        LesionSamples([])


def test_whole_volumes_have_the_lesions_they_were_given(map_head):
    drawn = draw_lesion_volume(np.random.default_rng(2), map_head, "t1post", 5.0, 3, size=(160, 160))
    assert drawn.image.shape == drawn.truth.shape == (26, 160, 160)
    assert drawn.spacing == (5.0, 1.0, 1.0)
    assert set(drawn.volumes_ml()) <= {1, 2, 3}
    assert sum(drawn.volumes_ml().values()) > 0
    empty = draw_lesion_volume(np.random.default_rng(2), map_head, "flair", 5.0, 0, size=(160, 160))
    assert not empty.truth.any()
