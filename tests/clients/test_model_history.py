"""What people see of the versions of a model."""

import json
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from recond.v1 import model_pb2 as pb
from recond_client.cli import main
from recond_client.commands.connection import Connection
from recond_client.models import history_of

MESSAGE = pb.GetModelHistoryResponse(
    versions=[
        pb.ModelVersion(
            model=pb.Model(name="knee", version="2", promoted=True, origin="added"),
            added="2026-05-02T10:00:00+00:00",
            lineage=pb.ModelLineage(
                parent="knee@1",
                hyperparameters='{"steps": 100, "rates": [0.1]}',
                metrics={"ssim": 0.91},
                data=['{"name": "knees", "licence": "CC0"}'],
            ),
            use=pb.ModelUse(requests=9, failures=1, mean_seconds=1.25, mean_residual=0.03, residuals=8),
        ),
        pb.ModelVersion(
            model=pb.Model(name="knee", version="3", canary_share=0.1, origin="added"),
            added="2026-05-03T10:00:00+00:00",
        ),
        pb.ModelVersion(model=pb.Model(name="knee", version="1", origin="added"), added="2026-05-01T10:00:00+00:00"),
    ],
    promotions=[
        pb.ModelPromotion(version="1", at="2026-05-01T10:00:00.000+00:00", action="added"),
        pb.ModelPromotion(version="2", at="2026-05-02T11:30:00.000+00:00", action="promoted"),
    ],
)


@pytest.fixture
def asked(monkeypatch):
    """The names that a service was asked for, which answers with the message."""
    names = []

    class Answering:
        def model_history(self, name):
            names.append(name)
            return history_of(MESSAGE)

    @contextmanager
    def opened(self):
        yield Answering()

    monkeypatch.setattr(Connection, "open", opened)
    return names


def test_the_table(asked, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(main, ["models", "history", "knee"])
    assert result.exit_code == 0, result.output
    assert asked == ["knee"]
    rows = [line.split() for line in result.output.splitlines() if line.strip()]
    assert ["2", "yes", "2026-05-02", "9", "1", "1.25", "0.0300"] in rows
    assert ["3", "10%,", "tried", "out", "2026-05-03", "0", "0", "-", "-"] in rows
    assert ["1", "when", "named", "2026-05-01", "0", "0", "-", "-"] in rows
    assert ["2:", "began", "with", "knee@1;", "in", "its", "own", "evaluation", "ssim", "0.91"] in rows
    assert ["2026-05-02", "11:30:00", "promoted", "2"] in rows


def test_json(asked):
    found = json.loads(CliRunner().invoke(main, ["models", "history", "knee", "--json"]).output)
    assert found["name"] == "knee"
    first, tried, _ = found["versions"]
    assert first["lineage"] == {
        "parent": "knee@1",
        "hyperparameters": {"steps": 100, "rates": [0.1]},
        "metrics": {"ssim": 0.91},
        "data": [{"name": "knees", "licence": "CC0"}],
    }
    assert first["use"]["requests"] == 9
    assert (tried["model"]["canary_share"], tried["lineage"]) == (0.1, None)
    assert [entry["action"] for entry in found["promotions"]] == ["added", "promoted"]
