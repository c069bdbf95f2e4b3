"""The committed wire code is what the .proto files say."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROTO = Path(__file__).parents[1] / "proto"
SOURCES = sorted(path.relative_to(PROTO) for path in PROTO.rglob("*.proto"))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed")
    folder = tmp_path_factory.mktemp("generated")
    outputs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", str(PROTO), *outputs, *map(str, SOURCES)],
        check=True,
        cwd=PROTO,
    )
    return folder


def test_there_is_a_contract() -> None:
    assert Path("recond/v1/reconstruction.proto") in SOURCES


def test_committed_code_is_current_and_complete(generated: Path) -> None:
    fresh = {path.relative_to(generated) for path in generated.rglob("*.py*")}
    assert len(fresh) == 3 * len(SOURCES)
    committed = {path.relative_to(PROTO) for path in PROTO.rglob("*_pb2*.py*") if "__pycache__" not in path.parts}
    assert committed == fresh
    stale = [str(path) for path in sorted(fresh) if (PROTO / path).read_bytes() != (generated / path).read_bytes()]
    assert not stale, f"run `make proto`: {stale}"


def test_buf_lint() -> None:
    buf = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")
    if buf is None:
        pytest.skip("buf is not installed (pip install buf-bin)")
    result = subprocess.run([buf, "lint", str(PROTO)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_call_and_field_has_a_comment() -> None:
    for source in SOURCES:
        lines = (PROTO / source).read_text().splitlines()
        for number, line in enumerate(lines):
            text = line.strip()
            declares = text.startswith(("rpc ", "message ", "service ", "enum ")) or (
                text.endswith(";") and " = " in text
            )
            if declares and not text.endswith("= 0;"):
                assert lines[number - 1].strip().startswith("//"), f"{source}:{number + 1}: {text}"
