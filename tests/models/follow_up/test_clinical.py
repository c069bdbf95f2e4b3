from datetime import date

import pytest

from recond_models.follow_up import ClinicalRowsError, read_clinical
from recond_models.follow_up.therapies import therapies


def read(text, encoding="utf-8", **options):
    return read_clinical(text.encode(encoding), **options)


def test_rows_come_by_date_with_what_they_say():
    table = read(
        "patient,date,therapy,medication,dose,note,karnofsky\n"
        "P1,2024-05-02,SRS,dexamethasone,4 mg,,80\n"
        "P2,2024-01-15,none,,,first visit,90\n"
        "P1,2024-02-01,,,,,\n"
    )
    assert [(one.patient, one.date, one.line) for one in table.rows] == [
        ("P2", date(2024, 1, 15), 3),
        ("P1", date(2024, 2, 1), 4),
        ("P1", date(2024, 5, 2), 2),
    ]
    last = table.of("P1")[-1]
    assert (last.therapy, last.medication, last.dose, last.note) == ("SRS", "dexamethasone", "4 mg", None)
    assert last.extra == {"karnofsky": "80"}
    assert last.to_json()["extra"] == {"karnofsky": "80"}
    assert table.notes == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_odd_files_are_read(encoding, separator):
    lines = ["Pseudonym,Visit_Date,Note", "P1,25.03.2024,größer", "P1,,,", "", "P1,2024-04-01,"]
    text = "\r\n".join(lines[:2] + lines[3:]).replace(",", separator) + f"\r\n{separator}{separator}\r\n"
    table = read(text, encoding)
    assert [one.date for one in table.rows] == [date(2024, 3, 25), date(2024, 4, 1)]
    assert table.rows[0].note == "größer"
    assert table.rows[1].note is None
    assert [one.code for one in table.notes] == (["clinical-encoding"] if encoding == "cp1252" else [])


def test_quoted_cells_may_hold_separators_and_line_breaks():
    table = read('patient,date,note\nP1,2024-01-01,"stable, no\ncontrast"\nP1,2024-02-01,later\n')
    assert table.rows[0].note == "stable, no\ncontrast"
    with pytest.raises(ClinicalRowsError, match="line 4: 4 cells in 3 columns"):
        read('patient,date,note\nP1,2024-01-01,"stable, no\ncontrast"\nP1,2024-02-01,a,b\n')


def test_missing_values_are_none_and_rows_that_come_twice_count_once():
    table = read("patient,date,therapy,medication\nP1,2024-01-01,n/a,-\nP1,2024-01-01,n/a,-\nP1,2024-01-01,SRS\n")
    assert [(one.therapy, one.medication) for one in table.rows] == [(None, None), ("SRS", None)]
    assert [one.message for one in table.notes] == ["Line 3 repeats an earlier one and counts once."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-05", date(2024, 3, 5)),
        ("2024/3/5", date(2024, 3, 5)),
        ("20240305", date(2024, 3, 5)),
        ("2024-03-05 10:30", date(2024, 3, 5)),
        ("25.03.2024", date(2024, 3, 25)),
        ("03/25/2024", date(2024, 3, 25)),
        ("04/04/2024", date(2024, 4, 4)),
    ],
)
def test_dates_that_mean_one_day(text, expected):
    assert read(f"patient,date\nP1,{text}\n").rows[0].date == expected


@pytest.mark.parametrize("text", ["03/04/2024", "03.04.2024", "3-4-2024"])
def test_dates_that_may_mean_two_days_are_refused_with_their_line(text):
    with pytest.raises(ClinicalRowsError, match=r"line 3: .* may mean two days: write it as 2024-04-03") as caught:
        read(f"patient,date\nP1,2024-01-01\nP1,{text}\n")
    assert caught.value.line == 3
    assert read(f"patient,date\nP1,{text}\n", day_first=True).rows[0].date == date(2024, 4, 3)
    assert read(f"patient,date\nP1,{text}\n", day_first=False).rows[0].date == date(2024, 3, 4)


def test_another_date_of_the_file_tells_how_all_are_written():
    assert read("patient,date\nP1,03.04.2024\nP1,25.12.2023\n").rows[-1].date == date(2024, 4, 3)
    with pytest.raises(ClinicalRowsError, match="line 2"):  # 25.12. and 12.25.: the file contradicts itself
        read("patient,date\nP1,03.04.2024\nP1,25.12.2023\nP1,12.25.2023\n")
    with pytest.raises(ClinicalRowsError, match="line 2"):  # another way to write
        read("patient,date\nP1,03/04/2024\nP1,25.12.2023\n")


@pytest.mark.parametrize(
    ("text", "why", "line"),
    [
        ("", "empty", None),
        ("patient,therapy\nP1,SRS\n", "no column says the date", 1),
        ("date,therapy\n2024-01-01,SRS\n", "no column says the patient", 1),
        ("patient,date,Pseudonym\n", "two columns say the patient", 1),
        ("patient,date\n,2024-01-01\n", "no patient", 2),
        ("patient,date,note\nP1,,x\n", "no date", 2),
        ("patient,date\nP1,2024-02-30\n", "no day of the calendar", 2),
        ("patient,date\nP1,1624-02-01\n", "no day of the calendar", 2),
        ("patient,date\nP1,in March\n", "no date", 2),
        ("patient,date\nP1,202435\n", "no date", 2),
        ("patient,date,end\nP1,2024-02-01,2024-01-01\n", "before it begins", 2),
        ('patient,date,note\nP1,2024-02-01,"open\n', "no table", 2),
    ],
)
def test_what_cannot_be_read_says_where(text, why, line):
    with pytest.raises(ClinicalRowsError, match=why) as caught:
        read(text)
    assert caught.value.line == line


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(ClinicalRowsError, match="cannot be read"):
        read_clinical(tmp_path / "missing.csv")
    with pytest.raises(ClinicalRowsError, match="no text"):
        read_clinical(b"PK\x03\x04\0\0patient,date")
    with pytest.raises(ClinicalRowsError, match="no list of visits"):
        read_clinical(b"a" * (17 << 20))
    (tmp_path / "visits.csv").write_text("patient,date\nP1,2024-01-01\n")
    assert len(read_clinical(tmp_path / "visits.csv").rows) == 1


def test_therapies_become_intervals():
    rows = read(
        "patient,date,end,therapy,medication,dose\n"
        "P1,2024-01-10,,radiotherapy,dexamethasone,8 mg\n"
        "P1,2024-02-10,,,dexamethasone,4 mg\n"
        "P1,2024-02-20,,,,\n"
        "P1,2024-03-10,,immunotherapy,stopped,\n"
        "P1,2024-01-15,2024-01-20,SRS,,\n"
    ).rows
    found = [(one.kind, one.name, one.start.isoformat(), one.end and one.end.isoformat()) for one in therapies(rows)]
    assert found == [
        ("therapy", "radiotherapy", "2024-01-10", "2024-03-10"),
        ("therapy", "SRS", "2024-01-15", "2024-01-20"),
        ("therapy", "immunotherapy", "2024-03-10", None),
        ("medication", "dexamethasone 8 mg", "2024-01-10", "2024-02-10"),
        ("medication", "dexamethasone 4 mg", "2024-02-10", "2024-03-10"),
    ]


def test_therapies_given_together_go_on_together():
    rows = read("patient,date,therapy\nP1,2024-01-10,a\nP1,2024-01-10,b\nP1,2024-02-10,a\n").rows
    assert [(one.name, one.end) for one in therapies(rows)] == [("a", None), ("b", date(2024, 2, 10))]
    assert therapies(rows)[1].is_active(date(2024, 2, 9))
    assert not therapies(rows)[1].is_active(date(2024, 2, 10))
