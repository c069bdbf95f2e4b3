from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from recond_service.commands.serve import serve
from recond_service.config import Settings, SettingsError, load_settings, settings_options, split_address
from recond_service.config import settings as settings_module


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for _, name, _ in Settings.fields():
        monkeypatch.delenv(f"RECOND_{name.upper()}", raising=False)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "some.pem"
    path.write_text("-----BEGIN-----")
    return path


def test_order_of_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "recond.toml"
    file.write_text('max_requests = 3\nmax_images = 4\nmax_xml_bytes = "1MiB"\nlog_level = "debug"\n')
    monkeypatch.setenv("RECOND_MAX_IMAGES", "5")
    monkeypatch.setenv("RECOND_MAX_XML_BYTES", "2MiB")
    settings = load_settings(file, {"max_xml_bytes": "3MiB", "max_requests": None})
    assert settings.admission.max_requests == 3
    assert settings.limits.max_images == 5
    assert settings.limits.max_xml_bytes == 3 << 20
    assert settings.telemetry.log_level == "debug"
    assert settings.limits.max_scan_bytes == 4 << 30


def test_settings_may_stand_in_the_table_of_their_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "recond.toml"
    file.write_text('max_images = 4\n[admission]\nmax_requests = 3\n[telemetry]\nlog_level = "debug"\n')
    monkeypatch.setenv("RECOND_LOG_LEVEL", "error")
    settings = load_settings(file, {"max_requests": 9})
    assert (settings.admission.max_requests, settings.limits.max_images) == (9, 4)
    assert settings.telemetry.log_level == "error"


@pytest.mark.parametrize(
    "text", ["[admission]\nlog_level = 'debug'\n", "[nowhere]\nlisten = 'x:1'\n", "[limits]\nx = 1\n"]
)
def test_a_setting_in_the_table_of_another_group_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "recond.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="there is no such setting"):
        load_settings(file, {})


def test_a_setting_in_the_wrong_table_is_told_its_own(tmp_path: Path) -> None:
    file = tmp_path / "recond.toml"
    file.write_text("[server]\nmax_scan_bytes = 1\n")
    with pytest.raises(SettingsError, match=r"no such setting in \[server\]: it belongs in \[limits\]"):
        load_settings(file, {})


def test_a_setting_on_top_and_in_its_table_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "recond.toml"
    file.write_text("listen = '127.0.0.1:1'\n[server]\nlisten = '127.0.0.1:2'\n")
    with pytest.raises(SettingsError, match=r"listen: given twice, on top and in \[server\]"):
        load_settings(file, {})


@pytest.mark.parametrize("size", ["abc", "5parsecs"])
def test_sizes_that_are_none(size: str) -> None:
    with pytest.raises(SettingsError, match=rf"max_scan_bytes: give a size .*64GiB \(got '{size}'\)"):
        load_settings(None, {"max_scan_bytes": size})


def test_settings_are_shown_where_their_files_cannot_be_read(pem: Path) -> None:
    missing = pem.with_name("missing")
    flags = {"tls_certificate": missing, "tls_key": missing, "triton_ca": missing}
    assert load_settings(None, flags, unread_files=True).redacted()["tls_certificate"] == str(missing)
    shown = CliRunner().invoke(serve, ["--show-config", "--tls-certificate", str(missing), "--tls-key", str(missing)])
    assert json.loads(shown.output)["tls_certificate"] == str(missing)


def test_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().admission.max_requests = 1  # type: ignore[misc]


def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "recond.toml"
    file.write_text("max_request = 3\n")
    with pytest.raises(SettingsError, match="max_request: there is no such setting"):
        load_settings(file, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [("max_requests = ", "is not TOML"), ("max_requests = 0", "max_requests: .*greater than or equal to 1.*got 0")],
)
def test_bad_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "recond.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings(file, {})


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*nowhere.toml: No such file"):
        load_settings(tmp_path / "nowhere.toml", {})


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:50051", "gateway.example:50051", "10.0.0.1:1"])
def test_open_address_needs_tls_or_insecure(listen: str, pem: Path) -> None:
    with pytest.raises(SettingsError, match="--insecure"):
        load_settings(None, {"listen": listen})
    assert load_settings(None, {"listen": listen, "insecure": True}).server.insecure
    assert load_settings(None, {"listen": listen, "tls_certificate": pem, "tls_key": pem}).server.listen == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:1", "[::1]:50051", "localhost:50051"])
def test_loopback_needs_nothing(listen: str) -> None:
    assert load_settings(None, {"listen": listen}).server.listen == listen


@pytest.mark.parametrize("listen", ["50051", "host", "host:", "host:99999", "::1:50051", "host:http", ":50051", ""])
def test_malformed_address(listen: str) -> None:
    with pytest.raises(SettingsError, match="listen"):
        load_settings(None, {"listen": listen})


def test_split_address() -> None:
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("a.b:0") == ("a.b", 0)


def test_certificate_and_key_go_together(pem: Path) -> None:
    for flags in ({"tls_certificate": pem}, {"tls_key": pem}):
        with pytest.raises(SettingsError, match="go together"):
            load_settings(None, flags)
    with pytest.raises(SettingsError, match="tls_client_ca needs"):
        load_settings(None, {"tls_client_ca": pem})
    with pytest.raises(SettingsError, match=r"tls_key: .*missing.*cannot be read"):
        load_settings(None, {"tls_certificate": pem, "tls_key": pem.with_name("missing")})


def test_redacted_hides_the_key_and_can_be_read_back(pem: Path) -> None:
    settings = load_settings(None, {"tls_certificate": pem, "tls_key": pem, "max_scan_bytes": "1536MiB"})
    shown = settings.redacted()
    assert shown["tls_key"] == "<set>"
    assert shown["tls_certificate"] == str(pem)
    assert shown["tls_client_ca"] == ""
    assert shown["max_scan_bytes"] == "1536MiB"
    assert json.loads(json.dumps(shown)) == shown
    assert load_settings(None, {**shown, "tls_key": pem}) == settings


def test_limits_never_exceed_what_fits() -> None:
    limits = load_settings(
        None, {"max_scan_bytes": "4GiB", "max_bytes_in_flight": "1GiB", "max_images": 7}
    ).request_limits()
    assert limits.max_scan_bytes == 1 << 30
    assert limits.max_images == 7


def test_default_in_flight_follows_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(settings_module, "_CGROUP_LIMIT", limit)
    machine = Settings().admission.max_bytes_in_flight
    limit.write_text("1073741824\n")
    assert Settings().admission.max_bytes_in_flight == 512 << 20
    limit.write_text("max\n")
    assert Settings().admission.max_bytes_in_flight == machine


def test_options_cover_every_setting() -> None:
    @click.command()
    @settings_options
    def command(**flags: object) -> None:
        click.echo(json.dumps(load_settings(None, flags).redacted()))

    runner = CliRunner()
    text = runner.invoke(command, ["--help"]).output
    for _, name, _ in Settings.fields():
        assert "--" + name.replace("_", "-") in text
    result = runner.invoke(
        command, ["--listen", "0.0.0.0:1", "--insecure", "--max-frame-bytes", "2MiB", "--log-format", "console"]
    )
    shown = json.loads(result.output)
    assert (shown["listen"], shown["insecure"], shown["max_frame_bytes"]) == ("0.0.0.0:1", True, "2MiB")
    assert shown["log_format"] == "console"
