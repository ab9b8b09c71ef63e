"""The files of `ops/` and the compose file, read for the tests that hold them against the code.

I/O: files of the repository.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")


@cache
def yaml(path: str) -> Any:
    return YAML(typ="safe").load((ROOT / path).read_text("utf-8"))


def compose() -> dict[str, Any]:
    """The services, by name, merged as Compose merges them."""
    services: dict[str, Any] = yaml("docker-compose.yml")["services"]
    return services


def ours() -> dict[str, Any]:
    """Those that run our image."""
    return {name: service for name, service in compose().items() if "build" in service}


def environment(service: dict[str, Any], **variables: str) -> dict[str, str]:
    """A service's environment, its required variables filled in."""
    filled: dict[str, str] = {}
    for name, value in service["environment"].items():
        filled[name] = VARIABLE.sub(lambda match: variables[match[1]], str(value))
    return filled


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml("ops/prometheus/alerts.yml")["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "ops/grafana/dashboards/pointsman.json").read_text("utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """Those that show something: rows are headings."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """Every PromQL expression that Prometheus or Grafana would evaluate, by where it stands."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in alerts()}
    for panel in panels():
        for target in panel["targets"]:
            where = f"panel {panel['title']} {target['refId']}"
            found[where] = target["expr"].replace("$__rate_interval", "5m")
    return found
