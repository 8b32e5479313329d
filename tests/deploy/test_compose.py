"""docker-compose.yml: by its own schema, the Procfile's lines, a durable store, and nothing beyond loopback."""

import json
import re
from importlib import resources
from typing import Any

import pytest

from cli import processes
from shared.settings import Settings
from tests.deploy import image
from tests.deploy.test_env_example import variable

TEXT = (image.ROOT / "docker-compose.yml").read_text()
BUILT = ("web", "worker", "flower")

yaml = pytest.importorskip("ruamel.yaml", reason="check-jsonschema brings it and the schema; it is not in dev.lock")
jsonschema = pytest.importorskip("jsonschema", reason="the same")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The file, its merges and anchors resolved."""
    found: dict[str, Any] = yaml.YAML(typ="safe", pure=True).load(TEXT)
    return found


@pytest.fixture(scope="module")
def services(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Its services."""
    found: dict[str, dict[str, Any]] = document["services"]
    return found


def interpolated(text: str, known: dict[str, str]) -> str:
    """What compose makes of a value: `$$` is a dollar, `${NAME:-default}` is filled."""
    text = re.sub(r"(?<!\$)\$\{(\w+):-([^}]*)\}", lambda name: known.get(name[1]) or name[2], text)
    return text.replace("$$", "$")


def test_it_is_what_its_schema_says(document: dict[str, Any]) -> None:
    vendored = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(vendored.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(document)] == []


@pytest.mark.parametrize(("name", "line"), [("web", processes.WEB), ("worker", processes.WORKER),
                                            ("flower", processes.FLOWER)])
def test_a_container_runs_the_procfiles_line(services: dict[str, Any], name: str, line: str) -> None:
    assert [interpolated(part, {}) for part in services[name]["command"]] == ["sh", "-c", f"exec {line}"]


def test_it_starts_without_a_settings_file(services: dict[str, Any]) -> None:
    for name in BUILT:
        assert services[name]["env_file"] == [{"path": ".env", "required": False}]
    unfilled = re.findall(r"(?<!\$)\$\{?\w+\}?(?!:-)", re.sub(r"\$\$", "", re.sub(r"\$\{\w+:-[^}]*\}", "", TEXT)))
    assert unfilled == []


def test_what_a_settings_file_says_of_this_machine_does_not_reach_into_a_container(services: dict[str, Any]) -> None:
    elsewhere = {"REDIS_URL", "BROKER_URL", "PAYDESK_DATA_DIR", "LOG_DIR", "PAYDESK_HOST", "PAYDESK_PORT"}
    known = {variable(name, field) for name, field in Settings.model_fields.items()}
    for name in BUILT:
        set_here = set(services[name]["environment"])
        assert elsewhere <= set_here <= known
    assert {"FLOWER_ADDRESS", "FLOWER_PORT"} <= set(services["flower"]["environment"])


def test_only_loopback_is_published_and_no_server(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"web": ["127.0.0.1:${PAYDESK_PORT:-8000}:8000"],
                         "flower": ["127.0.0.1:${FLOWER_PORT:-5555}:5555"]}


def test_the_store_keeps_what_it_acknowledged(services: dict[str, Any], document: dict[str, Any]) -> None:
    said = " ".join(services["store"]["command"])
    assert "--appendonly yes --appendfsync always" in said
    assert "--maxmemory-policy noeviction" in said
    (volume,) = services["store"]["volumes"]
    assert volume.split(":")[0] in document["volumes"]
    assert services["store"]["restart"] == "unless-stopped"
    for name in ("store", "broker"):  # an answer that is not PONG (LOADING) ends with 0 as well
        assert "grep" in services[name]["healthcheck"]["test"][1]
    healthy = {server: {"condition": "service_healthy"} for server in ("store", "broker")}
    assert all(services[name]["depends_on"] == healthy for name in BUILT)


def test_workers_can_be_scaled(services: dict[str, Any]) -> None:
    assert not {"container_name", "hostname", "ports"} & services["worker"].keys()
    assert "%h" in processes.WORKER


def test_a_container_may_write_to_its_volume_only(services: dict[str, Any]) -> None:
    for name in BUILT:
        service = services[name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["volumes"] == ["data:/data"]
        assert not {"user", "privileged", "network_mode", "pid"} & service.keys()


def test_a_worker_is_given_the_time_to_end_what_it_began(services: dict[str, Any]) -> None:
    assert int(services["worker"]["stop_grace_period"].removesuffix("s")) >= 40


def test_no_secret_stands_in_it() -> None:
    assert not re.search(r"(?i)\w*(secret|password|api_key)\w*\s*[:=]\s*[\"']?\w", re.sub(r"(?m)#.*$", "", TEXT))
