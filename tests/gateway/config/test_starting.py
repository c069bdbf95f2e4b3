"""A gateway that cannot start says why in a line, and what to do; no traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from recond_gateway.commands import gateway
from recond_gateway.config import load_settings
from recond_gateway.errors import ConfigurationError

FILES = {
    "service = 3": "service: ",
    "[service": "is not TOML",
    "listen = 3": "listen: ",
    "[limits]\nidle = 3": "limits.idle: there is no setting of this name",
    "[pipelines.default]\nmodel = 3": "pipelines.default.model: ",
    '[pipelines.default]\noutputs = ["colour"]': "pipelines.default.outputs.0: ",
    '[[listen]]\npipeline = "nix"': "'nix'",
    '[[listen]]\naddress = "127.0.0.1:9402"\ndevice = "a"\n[[listen]]\naddress = "127.0.0.1:9402"\ndevice = "b"': "same address",
    '[[listen]]\naddress = "127.0.0.1:0"\n[[listen]]\naddress = "127.0.0.1:0"': "same device",
    '[[listen]]\ndevice = "a b"': "letters, digits",
    '[[listen]]\naddress = "9402"': "not HOST:PORT",
    '[[listen]]\naddress = "0.0.0.0:9402"': "--scanner-network",
    '[[listen]]\naddress = "0.0.0.0:0"\nscanner_network = ["10.0.0.5/8"]': "the network of this address is 10.0.0.0/8",
    '[[listen]]\naddress = "0.0.0.0:0"\nscanner_network = ["hello"]': "'hello' is not a network",
    '[logging]\nmetrics_listen = "9100"': "not HOST:PORT",
    '[logging]\nmetrics_listen = "127.0.0.1:abc"': "not HOST:PORT",
    '[service]\nserver = "a b"': "service.server: ",
}


@pytest.mark.parametrize("text", FILES)
def test_files_that_are_wrong(tmp_path, text):
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    options = ["--config", str(file), "--spool", str(tmp_path / "spool")]
    server = [] if "[service]\n" in text else ["--server", "127.0.0.1:1"]
    done = CliRunner().invoke(gateway, [*options, *server])
    assert done.exit_code == 2, done.output
    assert FILES[text] in done.output
    assert len(done.output.splitlines()) == 1
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("taken", ["listen", "metrics"])
def test_a_port_in_use(tmp_path, taken):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        free = {"listen": "127.0.0.1:0", "metrics": "127.0.0.1:0"} | {taken: f"127.0.0.1:{port}"}
        options = ["--listen", free["listen"], "--metrics-listen", free["metrics"], "--spool", str(tmp_path / "spool")]
        command = [sys.executable, "-m", "recond_client", "gateway", "--server", "127.0.0.1:1", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"127.0.0.1:{port}" in done.stderr
    assert "(Address already in use): give another address" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--ca", "--certificate", "--key"])
@pytest.mark.parametrize("contents", [None, "PEM of a kind"])
def test_certificates_that_are_none(tmp_path, option, contents):
    files = {}
    for name in ("--ca", "--certificate", "--key"):
        path = tmp_path / f"{name[2:]}.pem"
        path.write_text("-----BEGIN X-----\n-----END X-----\n")
        files[name] = path
    if contents is None:
        files[option].unlink()
    else:
        files[option].write_text(contents)
    options = [each for name, path in files.items() for each in (name, str(path))]
    done = CliRunner().invoke(
        gateway,
        ["--server", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--spool", str(tmp_path / "spool"), *options],
    )
    assert done.exit_code == 2
    assert str(files[option]) in done.output
    assert isinstance(done.exception, SystemExit)


def test_a_gateway_on_the_loopback_of_ipv6():
    settings = load_settings(None, {"listen": [{"address": "[::1]:9402"}]})
    assert (settings.listen[0].host, settings.listen[0].port, settings.listen[0].loopback) == ("::1", 9402, True)


def test_a_spool_whose_disk_is_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(disk)], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        (disk / "filler").write_bytes(bytes(4096))
        options = ["--server", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--spool", str(disk / "spool")]
        done = CliRunner().invoke(gateway, options)
        assert done.exit_code == 2
        assert "No space left" in done.output
        assert not list(disk.glob("*.key")), "half a key would be in the way of the next try"
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def test_a_file_that_is_not_there():
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(Path("/nowhere/gateway.toml"), {})
