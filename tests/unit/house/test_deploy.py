"""What deploy/ ships: the metrics, settings and pages that it names exist; tools accept it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from telecast.config import load_settings, table
from tests.support.service.certificate import OPENSSL, certify
from tests.support.service.nats import needs_nats, program

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
ALERTS = (DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8")
DASHBOARD = json.loads((DEPLOY / "grafana" / "telecast.json").read_text("utf-8"))
TEXTS = {
    path.relative_to(DEPLOY).as_posix(): path.read_text("utf-8")
    for path in DEPLOY.rglob("*")
    if path.is_file()
}
METRIC = re.compile(r"\b(?:telecast|process)_[a-z_]+\b")
NOT_METRICS = {"telecast_config"}


def metrics_of_a_service() -> set[str]:
    spec = importlib.util.spec_from_file_location("deploy_tables", ROOT / "docs" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    names = {name: kind for name, kind, _ in tables.collectors()}
    parts = {
        f"{name}_{part}"
        for name, kind in names.items()
        if kind in ("histogram", "summary")
        for part in ("bucket", "sum", "count")
    }
    return set(names) | parts


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_every_metric_of_the_alerts_and_of_the_dashboard_exists() -> None:
    rules = re.findall(r"expr: (.*)", ALERTS)
    series = re.findall(r"series: '([^']+)'", TEXTS["prometheus/alerts.test.yml"])
    named = {name for text in (*rules, *series, *queries()) for name in METRIC.findall(text)}
    assert len(named) > 20
    assert named <= metrics_of_a_service()


def test_every_alert_has_a_test_and_a_page_that_says_what_to_do() -> None:
    names = set(re.findall(r"alert: (\w+)", ALERTS))
    assert names == set(re.findall(r'alertname="(\w+)"', TEXTS["prometheus/alerts.test.yml"]))
    links = re.findall(r"runbook: \S+/latest/([\w/]+)\.html#([\w-]+)", ALERTS)
    assert len(links) == len(names)
    for page, anchor in links:
        heads = re.findall(r"^#+ (.*)$", (ROOT / "docs" / f"{page}.md").read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
        assert anchor in anchors, (page, anchor)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize(
    "words", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")]
)
def test_prometheus_accepts_the_rules_and_fires_each(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *words], cwd=DEPLOY / "prometheus", capture_output=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_accepts_the_scrape_configuration(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(TEXTS["compose/prometheus.yml"])
    (tmp_path / "alerts.yml").write_text(ALERTS)
    (tmp_path / "scraper.key").write_text("x")
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_the_dashboard_is_one_that_grafana_can_lay_out() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["title"]
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "prometheus"
            assert target["expr"].count("(") == target["expr"].count(")")
    assert "uid: prometheus" in TEXTS["compose/grafana/datasource.yaml"]


def test_every_setting_that_is_named_exists() -> None:
    known = {about.variable for about in table()}
    for name, text in TEXTS.items():
        for word in re.findall(r"\bTELECAST_[A-Z_]+\b", text):
            assert word in known, f"{name}: {word}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "telecast.service"
    text = TEXTS["systemd/telecast.service"]
    unit.write_text(text.replace("/opt/telecast/bin/telecast", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, check=False, text=True
    )
    # It may complain of units of this machine, which are not ours.
    assert "telecast" not in done.stderr, done.stderr


def test_the_container_runs_as_nobody_in_particular_and_writes_below_data_only() -> None:
    text = TEXTS["container/Containerfile"]
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert re.search(r"^VOLUME /data$", text, re.MULTILINE)
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE)
    for line in copied:
        for name in line.split():
            assert (ROOT / name).exists(), name
    healthcheck = re.search(r"CMD \\\n\s+(\[.*\])$", text, re.MULTILINE)
    assert healthcheck is not None
    compile(json.loads(healthcheck[1])[2], "healthcheck", "exec")


def test_manifests_are_what_kubernetes_and_compose_read() -> None:
    yaml = pytest.importorskip("yaml")
    found = [*yaml.safe_load_all(TEXTS["kubernetes/telecast.yaml"])]
    assert [each["kind"] for each in found] == ["Service", "StatefulSet", "PodDisruptionBudget"]
    (pod,) = (each["spec"]["template"]["spec"] for each in found if each["kind"] == "StatefulSet")
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["enableServiceLinks"] is False
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in pod["volumes"]} | {"data"}
    for folder in ("compose", "cluster"):
        compose = yaml.safe_load(TEXTS[f"{folder}/compose.yaml"])
        for service in compose["services"].values():
            for volume in service.get("volumes", ()):
                source = volume.split(":")[0]
                if source.startswith(".") and not source.endswith((".key", "tls")):
                    assert (DEPLOY / folder / source).resolve().exists(), volume
                elif not source.startswith("."):
                    assert source in compose["volumes"], volume


def test_the_nodes_of_the_cluster_have_their_own_copies_and_share_what_must_be_one() -> None:
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load(TEXTS["cluster/compose.yaml"])["services"]
    nodes = [each for name, each in services.items() if name.startswith("telecast-")]
    servers = [name for name in services if name.startswith("nats-")]
    assert len(nodes) == len(servers) == 3
    own = [volume for node in nodes for volume in node["volumes"] if volume.endswith(":/data")]
    assert len(set(own)) == 3
    addresses = {node["networks"]["front"]["ipv4_address"] for node in nodes}
    assert len(addresses) == 3
    for node in nodes:
        given = node["environment"]
        assert given["TELECAST_KEYS"].startswith("/shared/")
        assert given["TELECAST_SECRET_FILE"].startswith("/shared/")
        assert "shared:/shared" in node["volumes"]
        assert given["TELECAST_REPLICAS"] == "3"
        assert all(server in given["TELECAST_JOURNAL"] for server in servers)
        values = {about.name: given[about.variable] for about in table() if about.variable in given}
        assert load_settings(values, environ={}).replicas == 3
    for proxy in ("nginx.conf", "Caddyfile"):
        for name in services:
            if name.startswith("telecast-"):
                assert f"{name}:8080" in TEXTS[f"cluster/{proxy}"]
    assert "/shared" in TEXTS["container/Containerfile"]


def test_the_nats_servers_sync_before_they_acknowledge_and_take_large_messages() -> None:
    text = TEXTS["cluster/nats.conf"]
    assert re.search(r"^ +sync_interval: always$", text, re.MULTILINE)
    assert re.search(r"^max_payload: 8MB$", text, re.MULTILINE)


@needs_nats
def test_a_nats_server_accepts_its_configuration() -> None:
    done = subprocess.run(
        [str(program()), "-t", "-c", DEPLOY / "cluster" / "nats.conf"],
        env={"NATS_NAME": "nats-1"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
@pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificate")
def test_nginx_accepts_the_configuration_before_three_nodes(tmp_path: Path) -> None:
    certify(tmp_path)
    text = TEXTS["cluster/nginx.conf"].replace("/etc/ssl/telecast", str(tmp_path))
    text = re.sub(r"telecast-\d:8080", "127.0.0.1:8080", text)
    (tmp_path / "nginx.conf").write_text(text)
    done = subprocess.run(
        ["nginx", "-t", "-e", "stderr", "-c", tmp_path / "nginx.conf", "-g", "pid /dev/null;"],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed")
@pytest.mark.skipif(OPENSSL is None, reason="openssl makes the certificate")
def test_caddy_accepts_the_configuration_before_three_nodes(tmp_path: Path) -> None:
    certify(tmp_path)
    text = TEXTS["cluster/Caddyfile"].replace("/etc/ssl/telecast", str(tmp_path))
    (tmp_path / "Caddyfile").write_text(text)
    done = subprocess.run(
        ["caddy", "validate", "--config", tmp_path / "Caddyfile", "--adapter", "caddyfile"],
        env={"HOME": str(tmp_path)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
