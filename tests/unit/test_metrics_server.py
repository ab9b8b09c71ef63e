"""The port at which a process is watched."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from schemas.errors import ConfigurationError
from streams.transport.metrics_server import MetricsServer
from tests.support.waiting import PATIENCE


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    found = MetricsServer("127.0.0.1", 0)
    yield found
    found.close()


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=PATIENCE * 10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_it_is_ready_when_the_process_serves_and_not_before(server: MetricsServer) -> None:
    assert get(server, "/ready")[0] == 503
    assert "pointsman_ready 0.0" in get(server, "/metrics")[1]
    server.ready()
    assert get(server, "/ready") == (200, "OK\n")
    assert "pointsman_ready 1.0" in get(server, "/metrics")[1]


def test_metrics_are_in_the_text_format_and_nothing_else_is_served(server: MetricsServer) -> None:
    code, text = get(server, "/metrics")
    assert code == 200
    assert "# TYPE pointsman_tasks_submitted_total counter" in text
    assert "process_resident_memory_bytes" in text
    assert get(server, "/")[0] == get(server, "/ready/more")[0] == 404


def test_a_port_that_is_taken_is_a_fault_of_the_settings(server: MetricsServer) -> None:
    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{server.port}: Address already in use.*--metrics-port"):
        MetricsServer("127.0.0.1", server.port)


def test_an_address_of_another_machine_is_one_too() -> None:
    with pytest.raises(ConfigurationError, match="POINTSMAN_METRICS_HOST"):
        MetricsServer("192.0.2.1", 0)
