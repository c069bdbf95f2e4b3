"""`recond analyze` and `recond compare` refuse what cannot be before a service is started."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from recond_client.cli import main
from recond_client.commands.compare import _that_exist, _visit


@pytest.fixture(autouse=True)
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECOND_SERVER", raising=False)
    for name in ("a.nii.gz", "b.nii.gz"):
        Path(name).write_bytes(b"x" * 9)
    Path("empty.nii").touch()
    Path("folder").mkdir()


def recond(line: str) -> Result:
    return CliRunner().invoke(main, line.split())


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("analyze a.nii.gz", 2, "--heads"),
        ("analyze --heads tissue", 2, "IMAGES"),
        ("analyze a.nii.gz --heads tissue --spacing 5,1", 2, "SLICES,ROWS,COLUMNS"),
        ("analyze a.nii.gz --heads tissue --spacing nan,1,1", 2, "SLICES,ROWS,COLUMNS"),
        ("analyze a.nii.gz --heads tissue --spacing -5,1,1", 2, "SLICES,ROWS,COLUMNS"),
        ("analyze a.nii.gz --heads tissue -o out.mrd", 2, ".nii.gz"),
        ("analyze a.nii.gz --heads tissue -o nowhere/out.png", 2, "nowhere"),
        ("analyze a.nii.gz --heads tissue --timeout 0", 2, "timeout"),
        ("analyze missing.nii --heads tissue", 3, "does not exist"),
        ("analyze empty.nii --heads tissue", 3, "empty"),
        ("analyze folder --heads tissue", 3, "no files"),
        ("analyze a.nii.gz --heads ,", 2, "names no head"),
        ("compare", 2, "PRIOR"),
        ("compare a.nii.gz b.nii.gz --date 2026-01-01", 2, "1 dates for 2 scans"),
        ("compare a.nii.gz b.nii.gz -o out.nii.gz", 2, ".json"),
        ("compare a.nii.gz missing.nii", 3, "does not exist"),
        ("compare a.nii.gz b.nii.gz --clinical missing.csv", 3, "does not exist"),
    ],
)
def test_what_cannot_be_is_said_at_once(monkeypatch, line, code, says):
    monkeypatch.setattr("recond_client.embedded.EmbeddedService.__init__", pytest.fail)
    result = recond(line)
    assert (result.exit_code, says in result.output) == (code, True), result.output


def test_label_maps_that_lie_beside_a_scan_are_taken():
    Path("a_lesion.nii.gz").write_bytes(b"labels")
    assert _visit(Path("a.nii.gz"), "", ["lesion@2", "tissue"], beside=True).labels == {
        "lesion": Path("a_lesion.nii.gz")
    }
    assert _visit(Path("a.nii.gz"), "", ["lesion"], beside=False).labels == {}
    assert _visit(Path("folder"), "", ["lesion"], beside=True).labels == {}


def test_compare_takes_heads_that_are_served_or_marked_in_all_scans():
    for name in ("a_lesion.nii.gz", "a_tissue.nii.gz", "b_tissue.nii.gz"):
        Path(name).write_bytes(b"labels")
    visits = [_visit(Path(name), "", ["lesion", "tissue"], beside=True) for name in ("a.nii.gz", "b.nii.gz")]
    names, kept = _that_exist(["lesion", "tissue"], visits, {"other"})
    assert names == ("tissue",)
    assert [set(visit.labels) for visit in kept] == [{"tissue"}, {"tissue"}]
    names, kept = _that_exist(["lesion", "tissue"], visits, {"lesion"})
    assert names == ("lesion", "tissue")
    assert [set(visit.labels) for visit in kept] == [{"lesion", "tissue"}, {"tissue"}]
