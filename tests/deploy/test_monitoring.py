"""The dashboard and the alert rules speak of metrics that exist, and mean what they say."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from recond_gateway.telemetry import Metrics as GatewayMetrics
from recond_service.telemetry import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/recond.json").read_text())
ALERTS = (DEPLOY / "prometheus/alerts.yml").read_text()
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool (Debian package prometheus)")


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def sample_names() -> set[str]:
    metrics = Metrics()
    metrics.requests.labels("OK")
    names = set()
    for family in [*metrics.registry.collect(), *GatewayMetrics().registry.collect()]:
        if family.type == "histogram":
            names |= {family.name + ending for ending in ("_bucket", "_sum", "_count")}
        else:
            names.add(family.name + ("_total" if family.type == "counter" else ""))
    return names


@pytest.mark.parametrize("text", [*expressions(), ALERTS], ids=lambda text: text[:60])
def test_every_metric_exists(text):
    # Annotations speak of metrics by the names of their families.
    named = set(re.findall(r"\brecond_[a-z_]+\b", text))
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in sample_names()}
    assert named
    assert named <= sample_names() | families


def test_every_metric_is_on_the_dashboard():
    shown = " ".join(expressions())
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in sample_names()}
    assert {name for name in families if name not in shown} == set()


def test_labels_of_expressions_exist():
    labels = {"instance", "le"} | {
        name
        for metrics in (Metrics(), GatewayMetrics())
        for metric in vars(metrics).values()
        for name in getattr(metric, "_labelnames", ())
    }
    for text in [*expressions(), ALERTS]:
        grouped = {name.strip() for names in re.findall(r"by \(([a-z_, ]*)\)", text) for name in names.split(",")}
        assert grouped <= labels


def test_panels_do_not_lie_over_each_other():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@needs_promtool
@pytest.mark.parametrize(
    "command", ["check rules alerts.yml", "test rules alerts_test.yml", "check config prometheus.yml"]
)
def test_prometheus_takes_the_rules(command):
    done = subprocess.run(
        [PROMTOOL, *command.split()], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_understands_the_dashboard(tmp_path):
    rules = [
        {"record": f"check:{number}", "expr": text.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for number, text in enumerate(expressions())
    ]
    file = tmp_path / "dashboard.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    done = subprocess.run([PROMTOOL, "check", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
