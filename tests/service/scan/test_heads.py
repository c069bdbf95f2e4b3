"""The heads of a scan without a model server: what is sent when, who guards whom, what comes of answers and failures."""

import numpy as np
import pytest
from head_packages import lesion_contract, tissue_contract

from recond_models.heads.contract import HeadClass, HeadContract, HeadGroup, HeadInfo
from recond_service.processes import SharedBlock
from recond_service.scan.heads import Heads
from recond_service.series import StackNumbers, make_series
from recond_service.types import FindingList, FinishedImage, FrameIndex, Geometry, HeadRequest

ROWS, COLUMNS, SPACING = 40, 36, (2.0, 2.0, 4.0)
GUARD = HeadContract(
    "classification",
    (
        HeadGroup("contrast", tuple(map(HeadClass, ("T1", "FLAIR"))), 0.6),
        HeadGroup("anatomy", tuple(map(HeadClass, ("head", "other")))),
    ),
)
SURE_HEAD = [0.1, 0.9, 0.95, 0.05]


def request(name: str, contract: HeadContract, *, wanted: bool = True) -> HeadRequest:
    return HeadRequest(HeadInfo(name, "1", "0" * 64, contract), wanted)


def images(slices: int = 20, geometry: bool = True, value: float = 1.0) -> list[FinishedImage]:
    made = []
    for number in range(slices):
        pixels = np.zeros((ROWS, COLUMNS), np.float32)
        pixels[4:-4, 4:-4] = value
        where = Geometry((0.0, 0.0, 4.0 * number), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), SPACING)
        made.append(FinishedImage(number, FrameIndex(slice=number), pixels, where if geometry else None))
    return made


def series_of(made: list[FinishedImage], findings: FindingList):
    return make_series(made, StackNumbers(), None, findings) if not made else _series(made, findings)


def _series(made, findings):
    numbers = StackNumbers()
    for image in made:
        numbers.of(image.index, image.geometry, image.pixels.shape, None)
    return make_series(made, numbers, None, findings)


class Server:
    """Answers blocks: pixels above half of the scale have label 1, slices what it is told."""

    def __init__(self, slices=SURE_HEAD) -> None:
        self.blocks = []
        self.slices = slices

    def answer(self, heads: Heads) -> None:
        while heads.pending:
            task, block = heads.next_block()
            self.blocks.append(block)
            pixels = block.pixels()
            layout = block.layout
            assert pixels.nbytes == layout.size
            if layout.answer == "slices":
                heads.answered(task, np.tile(np.float32(self.slices), (layout.count, 1)))
                continue
            own = pixels[layout.halo : len(pixels) - layout.halo]
            labels = (own > 0.5 * layout.framing.scale).astype(np.uint8)
            sums = np.zeros((layout.count, layout.outputs, 2), np.float32)
            sums[:, 1, 0] = labels.sum(axis=(1, 2))
            heads.answered(task, sums, labels, labels * 255)


def test_a_volume_is_cut_into_blocks_and_measured():
    findings = FindingList()
    heads, server = Heads([request("tissue", tissue_contract())], findings), Server()
    heads.series_ready(series_of(images(), findings))
    server.answer(heads)
    (ready,) = heads.ready()
    assert [(block.first, block.layout.slices, block.layout.count) for block in server.blocks] == [
        (0, 20, 16),
        (16, 8, 4),
    ]
    assert heads.finished
    labels, confidence = ready.maps
    assert labels.shape == (20, ROWS, COLUMNS)
    assert labels.nbytes + confidence.nbytes == ready.result.map_bytes
    voxel_ml = np.prod(SPACING) / 1000
    expected = 20 * (ROWS - 8) * (COLUMNS - 8) * voxel_ml
    volumes = {each.label: each for each in ready.result.measurements}
    assert volumes[1].value == pytest.approx(expected)
    assert (volumes[1].unit, volumes[2].value, volumes[0].value) == ("mL", 0.0, pytest.approx(expected))
    assert [label.name for label in ready.result.labels] == ["grey matter", "white matter"]
    assert ready.result.images == tuple(range(20))


def test_the_ends_of_a_volume_repeat_their_slice():
    findings = FindingList()
    heads = Heads([request("tissue", tissue_contract())], findings)
    made = images(5)
    made = [FinishedImage(m.number, m.index, m.pixels * (1 + m.number), m.geometry) for m in made]
    heads.series_ready(series_of(made, findings))
    _, block = heads.next_block()
    assert block.pixels()[:, 20, 20].tolist() == [1, 1, 1, 2, 3, 4, 5, 5, 5]


def test_heads_for_volumes_wait_for_the_guard():
    findings = FindingList()
    heads = Heads(
        [request("lesion", lesion_contract(contrasts=("FLAIR",))), request("series", GUARD, wanted=False)], findings
    )
    heads.series_ready(series_of(images(), findings))
    task, block = heads.next_block()
    assert block.layout.answer == "slices"
    waiting = []
    while heads.pending:
        waiting.append(heads.next_block()[0])
    for number in [task, *waiting]:
        heads.answered(number, np.float32([SURE_HEAD]))
    assert heads.pending  # now the lesions
    Server().answer(heads)
    ready = {each.result.head: each for each in heads.ready()}
    assert (ready["lesion"].wanted, ready["series"].wanted) == (True, False)
    assert dict(ready["series"].result.answers) == {"contrast": "FLAIR", "anatomy": "head"}
    assert "head-outside-contract" not in findings


@pytest.mark.parametrize(
    ("slices", "reason"),
    [([0.9, 0.1, 0.95, 0.05], "WRONG_CONTRAST"), ([0.1, 0.9, 0.05, 0.95], "WRONG_ANATOMY")],
)
def test_images_of_something_else_are_refused(slices, reason):
    findings = FindingList()
    contract = lesion_contract(contrasts=("FLAIR",), anatomy="head")
    heads, server = (
        Heads([request("lesion", contract), request("series", GUARD, wanted=False)], findings),
        Server(slices),
    )
    heads.series_ready(series_of(images(), findings))
    server.answer(heads)
    results = [each.result for each in heads.ready()]
    assert [(result.head, result.refusal) for result in results if result.refusal] == [("lesion", reason)]
    assert all(block.layout.answer == "slices" for block in server.blocks)
    assert "head-refused" in findings
    assert heads.finished


def test_a_doubt_is_a_warning():
    findings = FindingList()
    heads = Heads([request("lesion", lesion_contract(contrasts=("FLAIR",))), request("series", GUARD)], findings)
    heads.series_ready(series_of(images(), findings))
    Server([0.65, 0.35, 1.0, 0.0]).answer(heads)
    assert {each.result.refusal for each in heads.ready()} == {""}
    assert "head-outside-contract" in findings


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (images(geometry=False), "SPACING_UNKNOWN"),
        (images(2), "TOO_FEW_SLICES"),
        (images(value=0.0), "IMAGE_EMPTY"),
        (images(value=float("nan")), "IMAGE_NOT_FINITE"),
    ],
    ids=["no geometry", "two slices", "empty", "not finite"],
)
def test_volumes_that_no_head_can_use(made, reason):
    findings = FindingList()
    heads = Heads([request("tissue", tissue_contract())], findings)
    heads.series_ready(series_of(made, findings))
    (ready,) = heads.ready()
    assert ready.result.refusal == reason
    assert not ready.maps
    assert heads.finished


def test_coarse_slices_are_refused_as_the_contract_says():
    findings = FindingList()
    heads = Heads([request("tissue", tissue_contract(coarsest_mm=(1.5, 8.0)))], findings)
    heads.series_ready(series_of(images(), findings))
    (ready,) = heads.ready()
    assert ready.result.refusal == "TOO_COARSE"


def test_a_failure_takes_its_head_alone():
    findings = FindingList()
    heads = Heads([request("tissue", tissue_contract()), request("lesion", lesion_contract())], findings)
    heads.series_ready(series_of(images(), findings))
    task, block = heads.next_block()
    assert block.run.request.info.name == "tissue"
    heads.failed(task, "it broke")
    Server().answer(heads)
    results = {each.result.head: each.result for each in heads.ready()}
    assert results["tissue"].refusal == "HEAD_FAILED"
    assert results["lesion"].refusal == ""
    assert heads.finished
    assert "head-failed" in findings


def test_lesions_are_numbered_measured_and_placed_in_structures():
    findings = FindingList()
    heads = Heads([request("lesion", lesion_contract()), request("tissue", tissue_contract())], findings)
    made = images(10, value=0.01)
    for number, image in enumerate(made):
        if 3 <= number < 7:
            image.pixels[10:20, 10:20] = 1
            image.pixels[28:31, 28:31] = 1
    heads.series_ready(series_of(made, findings))
    Server().answer(heads)
    results = {each.result.head: each for each in heads.ready()}
    found = results["lesion"].result
    assert [each.label for each in found.instances] == [1, 2]
    assert found.instances[0].first == (3, 10, 10)
    assert found.instances[0].last == (6, 19, 19)
    assert found.instances[0].structure == "grey matter"  # the server gives both heads the same labels
    values = {(each.name, each.label): each.value for each in found.measurements}
    assert values["volume", 1] == pytest.approx(4 * 100 * 0.016)
    assert values["volume", 2] == pytest.approx(4 * 9 * 0.016)
    assert values["volume", 0] == pytest.approx(4 * 109 * 0.016)
    # LPS: rows run along y, columns along x; the field of view is centred on pixel (20, 18).
    assert found.instances[0].centre_mm == pytest.approx(((14.5 - 18) * 2, (14.5 - 20) * 2, 4.5 * 4))
    labels, _ = results["lesion"].maps
    assert np.unique(labels).tolist() == [0, 1, 2]


def test_heads_for_slices_answer_as_images_come():
    findings = FindingList()
    heads, server = Heads([request("series", GUARD)], findings), Server()
    for image in images(2):
        heads.image_ready(image)
        server.answer(heads)
        (ready,) = heads.ready()
        assert (ready.result.stack, ready.result.images) == ("", (image.number,))
        assert {score.name: score.probability for score in ready.result.scores}["FLAIR"] == pytest.approx(0.9)


def test_blocks_travel_through_shared_memory():
    findings = FindingList()
    heads = Heads([request("tissue", tissue_contract())], findings)
    heads.series_ready(series_of(images(4), findings))
    _, block = heads.next_block()
    with SharedBlock.holding("test", block.pixels().data.cast("B")) as shared:
        assert np.array_equal(block.layout.array(shared), block.pixels())


def test_a_guard_that_is_wanted_says_why_it_has_no_result():
    for made, fail, reason in (
        (images(value=float("nan")), False, "IMAGE_NOT_FINITE"),
        (images(), True, "HEAD_FAILED"),
    ):
        findings = FindingList()
        heads = Heads([request("series", GUARD)], findings)
        heads.series_ready(series_of(made, findings))
        while fail and heads.pending:
            heads.failed(heads.next_block()[0], "it broke")
        assert [each.result.refusal for each in heads.ready()] == [reason]
        assert heads.finished


def test_what_is_larger_than_any_patient_is_refused():
    """A pixel size in other units would make the network see, and the worker hold, metres at 1 mm."""
    findings = FindingList()
    made = images(3)
    for number, image in enumerate(made):
        pixels = np.zeros((1000, 40), np.float32)
        pixels[10:-10, 4:-4] = 1 + number
        made[number] = FinishedImage(number, image.index, pixels, image.geometry)
    heads = Heads([request("tissue", tissue_contract())], findings)
    heads.series_ready(series_of(made, findings))
    assert [each.result.refusal for each in heads.ready()] == ["FIELD_TOO_LARGE"]


def test_slices_of_air_do_not_tell_the_contrast():
    findings = FindingList()
    heads = Heads([request("series", GUARD)], findings)
    heads.series_ready(series_of(images(4), findings))
    answers = iter([[0.1, 0.9, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0], [0.1, 0.9, 1.0, 0.0]])
    while heads.pending:
        heads.answered(heads.next_block()[0], np.float32([next(answers)]))
    (ready,) = heads.ready()
    scores = {score.name: score.probability for score in ready.result.scores}
    shown = scores["head"]
    assert 0 < shown < 1
    assert scores["FLAIR"] == pytest.approx(0.9, abs=1e-3)
    assert dict(ready.result.answers)["contrast"] == "FLAIR"


def explaining(wanted=True):
    return HeadRequest(HeadInfo("series", "1", "0" * 64, GUARD, (4, 4)), wanted)


def answer_with_attention(heads: Heads, scores) -> list:
    """Answer all blocks; the map of output k on slice n is 10 k + n in the upper half of the square."""
    blocks = []
    while heads.pending:
        task, block = heads.next_block()
        blocks.append(block)
        arrays = [np.float32([scores])]
        if block.layout.has_attention:
            cells = np.zeros(block.layout.attention_shape, np.float32)
            cells[:, :, :2] = (10 * np.arange(block.layout.outputs) + block.first)[:, None, None]
            arrays.append(cells)
        heads.answered(task, *arrays)
    return blocks


def test_attention_maps_of_what_was_answered():
    findings = FindingList()
    heads = Heads([explaining()], findings, attention=True)
    heads.image_ready(images(1)[0])
    assert not any(block.layout.has_attention for block in answer_with_attention(heads, SURE_HEAD))
    (single,) = heads.ready()
    assert (single.result.attention, single.maps) == ((), ())  # slices by themselves have none
    heads.series_ready(series_of(images(), findings))
    answer_with_attention(heads, SURE_HEAD)
    (ready,) = heads.ready()
    assert [(each.group, each.name) for each in ready.result.attention] == [("contrast", "FLAIR"), ("anatomy", "head")]
    (maps,) = ready.maps
    assert maps.dtype == np.float32
    assert maps.shape == (2, 9, ROWS, COLUMNS)
    assert maps.nbytes == ready.result.map_bytes
    numbers = [image - ready.result.images[0] + 5 for image in ready.result.images]
    assert maps[0, :, 0, 0].tolist() == [10 + number for number in numbers]  # FLAIR is output 1
    assert maps[1, :, 0, 0].tolist() == [20 + number for number in numbers]
    assert (maps[:, :, -1] == 0).all()
    assert not list(findings)


def test_of_an_answer_that_is_unknown_the_most_probable_class_is_explained():
    findings = FindingList()
    heads = Heads([explaining()], findings, attention=True)
    heads.series_ready(series_of(images(), findings))
    answer_with_attention(heads, [0.45, 0.55, 0.9, 0.1])
    (ready,) = heads.ready()
    assert dict(ready.result.answers)["contrast"] == "unknown"
    assert ready.result.attention[0].name == "FLAIR"


def test_attention_costs_nothing_where_it_is_not_asked_for():
    findings = FindingList()
    heads = Heads([explaining(wanted=False), request("tissue", tissue_contract())], findings, attention=True)
    heads.series_ready(series_of(images(), findings))
    assert not any(block.layout.has_attention for block in _guards(heads))
    assert [finding.code for finding in findings] == ["attention-none"]  # tissue has no classes of slices
    heads = Heads([explaining()], findings)
    heads.series_ready(series_of(images(), findings))
    assert not any(block.layout.has_attention for block in _guards(heads))


def _guards(heads: Heads) -> list:
    return [block for block in answer_with_attention_or_pixels(heads) if block.layout.answer == "slices"]


def answer_with_attention_or_pixels(heads: Heads) -> list:
    server = Server()
    server.answer(heads)
    return server.blocks


def test_heads_of_other_architectures_say_that_they_have_no_attention_map():
    findings = FindingList()
    heads = Heads([request("mine", GUARD), explaining()], findings, attention=True)
    heads.series_ready(series_of(images(), findings))
    answer_with_attention(heads, SURE_HEAD)
    ready = {each.result.head: each for each in heads.ready()}
    assert (ready["mine"].result.refusal, ready["mine"].maps) == ("", ())
    assert ready["series"].maps
    assert [(each.code, "mine" in each.message) for each in findings] == [("attention-none", True)]


def test_attention_maps_of_large_images_are_left_out():
    findings = FindingList()
    made = images(9)
    pixels = np.ones((4000, 4000), np.float32)
    made = [FinishedImage(each.number, each.index, pixels, each.geometry) for each in made]
    heads = Heads([explaining()], findings, attention=True)
    heads.series_ready(series_of(made, findings))
    answer_with_attention(heads, SURE_HEAD)
    (ready,) = heads.ready()
    assert ready.result.answers
    assert (ready.result.attention, [each.code for each in findings]) == ((), ["attention-too-large"])


CONTRASTS = ("T1", "FLAIR", "PD", "T2")
FULL_GUARD = HeadContract(
    "classification",
    (
        HeadGroup("contrast", tuple(map(HeadClass, CONTRASTS)), 0.5),
        HeadGroup("anatomy", tuple(map(HeadClass, ("head", "other")))),
        HeadGroup("motion", tuple(map(HeadClass, ("none", "mild", "severe")))),
    ),
)


@pytest.mark.parametrize(
    ("contrast", "head", "severe", "refusal"),
    [
        ([0.1, 0.1, 0.7, 0.1], 0.9, 0.6, ""),  # FLAIR, 8-fold undersampled without a coil map, looks like this
        ([0.1, 0.1, 0.7, 0.1], 0.9, 0.2, "WRONG_CONTRAST"),  # a PD scan
        ([0.3, 0.1, 0.3, 0.3], 0.9, 0.2, ""),  # nobody knows which
        ([0.1, 0.1, 0.1, 0.7], 0.9, 0.6, "WRONG_CONTRAST"),  # T2 is told from FLAIR in any case
        ([0.1, 0.1, 0.7, 0.1], 0.1, 0.6, "WRONG_ANATOMY"),  # a knee
    ],
)
def test_the_contrast_of_distorted_images_is_doubted_rather_than_refused(contrast, head, severe, refusal):
    findings = FindingList()
    lesion = request("lesion", lesion_contract(contrasts=("FLAIR",), anatomy="head"))
    heads = Heads([lesion, request("series", FULL_GUARD, wanted=False)], findings)
    heads.series_ready(series_of(images(), findings))
    Server([*contrast, head, 1 - head, 1 - severe, 0, severe]).answer(heads)
    (result,) = (each.result for each in heads.ready() if each.wanted)
    assert result.refusal == refusal
    assert ("head-outside-contract" in {each.code for each in findings}) == (not refusal)


def test_a_size_that_a_model_server_refuses_is_a_refusal_beside_others():
    findings = FindingList()
    heads = Heads([request("fixed", tissue_contract()), request("tissue", tissue_contract())], findings)
    heads.series_ready(series_of(images(), findings))
    task, block = heads.next_block()
    assert block.run.request.info.name == "fixed"
    heads.failed(task, "its program takes 96 x 96", "FIELD_TOO_LARGE")
    Server().answer(heads)
    refusals = {each.result.head: each.result.refusal for each in heads.ready()}
    assert refusals == {"fixed": "FIELD_TOO_LARGE", "tissue": ""}
    assert [each.code for each in findings] == ["head-refused"]
