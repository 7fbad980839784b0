"""What containers are told fits what the code knows: settings, roles, groups, topics, ports, files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from topology.cli import _parser
from topology.settings import ALL_ROLES, ROLES, Role, Settings, read_settings
from topology.topics import REVIEW_REQUESTS, VIDEO_UPLOADS, WATCH_EVENTS

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
OURS = [name for name, service in COMPOSE["services"].items() if service["image"].startswith("vibestream:")]
READS: dict[Role, str] = {"annotate": VIDEO_UPLOADS, "review": REVIEW_REQUESTS, "session": WATCH_EVENTS}


def resources() -> Iterator[dict[str, Any]]:
    for name in KUSTOMIZATION["resources"]:
        yield from yaml.safe_load_all((KUBERNETES / name).read_text())


def containers() -> Iterator[dict[str, Any]]:
    for resource in resources():
        if resource["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield from resource["spec"]["template"]["spec"]["containers"]


def config_map() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in KUSTOMIZATION["configMapGenerator"][0]["literals"])


@pytest.mark.parametrize("name", OURS)
def test_compose_sets_what_are_settings_and_runs_what_are_commands(name: str):
    service = COMPOSE["services"][name]
    environ = {key: str(value).partition(":-")[2].rstrip("}") if "${" in str(value) else str(value)
               for key, value in service["environment"].items()}  # fmt: skip
    assert read_settings(environ).broker == "kafka://kafka:9092"
    _parser().parse_args([str(word) for word in service["command"]])


def test_every_role_runs_in_compose_and_in_the_cluster():
    in_compose = {service["command"][1] for service in COMPOSE["services"].values()
                  if service.get("command", [""])[0] == "worker"}  # fmt: skip
    in_cluster = {container["args"][1] for container in containers() if container["args"][0] == "worker"}
    assert in_compose == set(ALL_ROLES)
    assert in_cluster == set(ROLES)


def test_who_asks_for_a_look_at_videos_and_who_looks_are_set_up_alike():
    settings = ("VIBESTREAM_MEDIA_ALLOW", "VIBESTREAM_MEDIA_EXTRACTORS")
    annotate, media = (COMPOSE["services"][role]["environment"] for role in ("annotate", "media"))
    assert all(annotate[name] == media[name] for name in settings)


def test_every_file_of_the_cluster_is_listed():
    there = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "media.yaml"}
    assert there == set(KUSTOMIZATION["resources"])


def test_the_config_map_holds_settings():
    settings = read_settings(config_map())
    assert settings.partitions > 1
    assert settings.http_host == "0.0.0.0"


@pytest.mark.parametrize("container", list(containers()), ids=lambda one: one["name"])
def test_containers_run_commands_without_rights(container: dict[str, Any]):
    _parser().parse_args(container["args"])
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert container["image"] == KUSTOMIZATION["images"][0]["name"]


def test_autoscaling_follows_the_groups_and_topics_of_the_code():
    settings, config = Settings(), config_map()
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"] for one in resources() if one["kind"] == "ScaledObject"
    }
    deployed = {one["metadata"]["name"] for one in resources() if one["kind"] == "Deployment"}
    assert scaled.keys() <= deployed
    for role in READS:
        if role in scaled:
            [trigger] = scaled[role]["triggers"]
            assert trigger["metadata"]["consumerGroup"] == settings.group(role)
            assert trigger["metadata"]["topic"] == settings.topic(READS[role])
            assert f"kafka://{trigger['metadata']['bootstrapServers']}" == config["VIBESTREAM_BROKER"]
            assert scaled[role]["maxReplicaCount"] == int(config["VIBESTREAM_PARTITIONS"])


def test_what_compose_mounts_is_there():
    mounted = [
        volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service.get("volumes", [])
    ]
    files = [name for name in mounted if name.startswith("./")]
    assert files
    missing = [name for name in files if not (ROOT / name).exists()]
    assert missing == []
