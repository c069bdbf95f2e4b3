import csv
import io
import json
from datetime import date

import numpy as np
import pytest
from follow_up_phantoms import CENTRE, ellipsoid, grid_of, visit

from recond_models.follow_up import Registration, VisitError, VisitOrderError, read_clinical, timeline
from recond_models.follow_up.quality import Quality

SHAPE = (30, 70, 70)
GRID = grid_of((2.0, 1.0, 1.0), SHAPE)
DAYS = (date(2024, 1, 10), date(2024, 3, 10), date(2024, 6, 10), date(2024, 9, 10))
STILL = Registration(np.eye(4), Quality(1.0, 1.0, 0.7, None, 0.0))


@pytest.fixture(autouse=True)
def lying_still(monkeypatch):
    """All scans lie on each other: what is tested here is what comes after the registration."""
    monkeypatch.setattr("recond_models.follow_up.comparison.register", lambda *_, **__: STILL)


def seen(day, *parts, name="", patient=""):
    mask = np.zeros(SHAPE, dtype=bool)
    for at, radius in parts:
        mask |= ellipsoid(GRID, SHAPE, CENTRE + np.array(at), radius)
    return visit(mask, day, name or f"scan of {day}", GRID, patient)


A, B = (-15, 0, 0), (15, 5, 5)
VISITS = (
    seen(DAYS[0], (A, 6), patient="P1"),
    seen(DAYS[1], (A, 7), (B, 4), patient="P1"),
    seen(DAYS[2], (A, 5), (B, 6), patient="P1"),
    seen(DAYS[3], (B, 8), patient="P1"),
)
ROWS = read_clinical(
    b"patient,date,therapy,medication,dose\nP1,2024-03-15,SRS,dexamethasone,4 mg\nP2,2024-03-15,x,,\nP1,2024-07-01,none,,\n"
).rows


def test_lesions_are_followed_through_all_visits():
    found = timeline(VISITS, ROWS)
    first, second = found.tracks["lesion"]
    assert [one and one.status for one in first.points] == [None, "grown", "shrunk", "vanished"]
    assert [one and one.status for one in second.points] == [None, "new", "grown", "grown"]
    assert first.points[3].volume.current == 0
    assert second.points[0] is None
    assert found.months == pytest.approx((0, 60 / 30.4375, 152 / 30.4375, 244 / 30.4375))
    totals = found.totals("lesion")
    change = found.since_first("lesion")
    assert change.absolute == pytest.approx(totals[3] - totals[0])
    assert change.per_month == pytest.approx((totals[3] - totals[0]) / (244 / 30.4375))


def test_visits_are_put_in_order_of_time():
    found = timeline(VISITS[::-1])
    assert [one.date for one in found.visits] == list(DAYS)


def test_one_visit_has_no_change():
    found = timeline(VISITS[:1])
    assert found.since_first("lesion").absolute is None
    assert found.comparisons[0].lesions["lesion"].total.prior is None
    assert len(found.table()) == 2


def test_the_table_has_a_row_for_each_total_and_lesion_with_the_therapy_of_its_day():
    text = timeline(VISITS, ROWS).to_csv()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(one["date"], one["kind"], one["name"], one["status"]) for one in rows] == [
        ("2024-01-10", "total", "all lesions", ""),
        ("2024-01-10", "lesion", "L1", ""),
        ("2024-03-10", "total", "all lesions", "grown"),
        ("2024-03-10", "lesion", "L1", "grown"),
        ("2024-03-10", "lesion", "L2", "new"),
        ("2024-06-10", "total", "all lesions", "shrunk"),
        ("2024-06-10", "lesion", "L1", "shrunk"),
        ("2024-06-10", "lesion", "L2", "grown"),
        ("2024-09-10", "total", "all lesions", "grown"),
        ("2024-09-10", "lesion", "L1", "vanished"),
        ("2024-09-10", "lesion", "L2", "grown"),
    ]
    assert {one["therapy"] for one in rows if one["date"] == "2024-06-10"} == {"SRS"}
    assert {one["medication"] for one in rows if one["date"] == "2024-09-10"} == {"dexamethasone 4 mg"}
    assert {one["therapy"] for one in rows if one["date"] == "2024-09-10"} == {""}
    assert rows[4]["change_percent"] == ""
    assert float(rows[3]["change_ml"]) > 0


def test_the_timeline_is_plain_json_with_the_rows_of_its_patient():
    answer = json.loads(json.dumps(timeline(VISITS, ROWS).to_json()))
    assert answer["patient"] == "P1"
    assert len(answer["clinical"]) == 2
    assert answer["therapies"][0] == {"kind": "therapy", "name": "SRS", "start": "2024-03-15", "end": "2024-07-01"}
    assert [one["comparison"]["prior"] and one["comparison"]["prior"]["date"] for one in answer["visits"]] == [
        None, "2024-01-10", "2024-03-10", "2024-06-10",
    ]  # fmt: skip
    assert answer["tracks"]["lesion"][1]["points"][0] is None


def test_lesions_that_split_and_merge_are_one_track():
    apart = ((-6, 0, 0), 5.0), ((6, 0, 0), 5.0)
    whole = ((-5, 0, 0), 6.0), ((5, 0, 0), 6.0)
    found = timeline([seen(DAYS[0], *apart), seen(DAYS[1], *whole), seen(DAYS[2], *apart), seen(DAYS[3], *apart)])
    (track,) = found.tracks["lesion"]
    assert [len(one.numbers) for one in track.points] == [2, 1, 2, 2]
    assert [one.status for one in track.points[:3]] == [None, "merged", "split"]
    totals = found.totals("lesion")
    assert [one.volume.current for one in track.points] == pytest.approx(list(totals))


def test_rows_of_one_patient_belong_to_visits_without_a_pseudonym():
    nameless = [seen(DAYS[0], (A, 6)), seen(DAYS[1], (A, 7))]
    own = [one for one in ROWS if one.patient == "P1"]
    assert len(timeline(nameless, own).rows) == 2
    with pytest.raises(VisitOrderError, match="several patients"):
        timeline(nameless, ROWS)
    with pytest.raises(VisitOrderError, match="several patients"):
        timeline([seen(DAYS[0], patient="P1"), seen(DAYS[1], patient="P2")])
    with pytest.raises(VisitError, match="without a date"):
        timeline([seen(DAYS[0], name="a"), seen(None, name="b")])
    with pytest.raises(VisitError, match="needs a visit"):
        timeline([])


def test_visits_without_dates_stay_in_order_and_have_no_rates():
    found = timeline([seen(None, (A, 6), name="second"), seen(None, (A, 9), name="first")])
    assert [one.name for one in found.visits] == ["second", "first"]
    assert found.months == (None, None)
    assert found.since_first("lesion").absolute > 0
    assert found.since_first("lesion").per_month is None
