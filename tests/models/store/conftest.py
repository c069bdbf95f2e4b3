from pathlib import Path

import pytest

from recond_models.store import folders


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No models, shipped or added, but those of the test."""
    monkeypatch.setenv("RECOND_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(folders, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "models"
