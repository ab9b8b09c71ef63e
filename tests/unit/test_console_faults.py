"""Faults of a topology on a screen: the line of the file and a caret below what is meant, and never a secret."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from console.cli.faults import lines_of
from console.cli.main import run
from console.cli.output import Output
from schemas.errors import TopologyError
from schemas.topology import load_topology
from tests.support.console import pointsman
from tests.support.topologies import changed


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


def shown(path: Path, text: str) -> list[str]:
    path.write_text(text, "utf-8")
    with pytest.raises(TopologyError) as raised:
        load_topology(path)
    return [line.replace(str(path), "F") for line in lines_of(raised.value, on_screen=True)]


@pytest.mark.parametrize(
    ("old", "new", "line", "carets"),
    [
        ("agents: [beta]", "agents: [betta]", "   41 |     agents: [betta]", "              ^^^^^"),
        ("timeout_ms: 1000", "tiemout_ms: 1000", "   17 |     tiemout_ms: 1000", "     ^^^^^^^^^^"),
        ("timeout_ms: 1000", "timeout_ms: 5s", "   17 |     timeout_ms: 5s", "                 ^^"),
        ("    effect: idempotent\n", "", "   18 |   beta:", "   ^^^^"),
        ("prefix: t.", "prefix:\tt/", "    1 | prefix: t/", "        ^"),
        ("prefix: t.", "日本: '\x85'\nprefix: t.", "    1 | 日本: '\\x85'", " ^^^^"),
        ("deadline_ms: 8000", "deadline_ms: &d\n      8000", "   37 |     deadline_ms: &d", "                  ^^"),
    ],
)
def test_the_place_is_shown_with_a_caret_below_what_is_meant(
    tmp_path: Path, old: str, new: str, line: str, carets: str
) -> None:
    _said, source, below = shown(tmp_path / "t.yaml", changed((old, new)))[:3]
    assert (source, below) == (line, f"      |{carets}")


def test_a_long_line_is_shown_in_part(tmp_path: Path) -> None:
    text = changed(("answer: nobody knows", f"answer: {'a' * 300}, agent: alfa"), ("      answer", "      {answer"))
    text = text.replace("agent: alfa", "agent: alfa}")
    _said, source, below = shown(tmp_path / "t.yaml", text)
    assert source.endswith("agent: alfa}")
    assert source[below.index("^") : below.rindex("^") + 1] == "alfa"
    assert len(source) < 120


@pytest.mark.parametrize(
    "text",
    [
        changed(("kafka: {}", "kafka: {sasl.password: hunter2}")),
        changed(("kafka: {}", "kafka:\n  sasl.password: hunter2")),
        changed(("kafka: {}", "kafka:\n  sasl.jaas.config: &x hunter2")),
        changed(("kafka: {}", "kafka:\n  one:\n    two: &x hunter2")),
        changed(("kafka: {}", "kafka:\n  sasl.password: hunter2: x")),
        changed(("kafka: {}", "kafka:\n  ? x\n  y: hunter2: z")),
        changed(("    effect: write\n", "    effect: write\n    env:\n      MY_TOKEN: hunter2\n      x: &a hunter2\n")),
        changed(("    effect: write\n", "    effect: write\n    url: https://me:hunter2@host/\n")),
        changed(("options: {a: 1}", "options: {api_key: [hunter2]}")),
        '{"kafka": {"sasl.password": "hunter2"}, "agents": {}}',
    ],
)
def test_a_line_that_may_hold_a_secret_is_not_shown(tmp_path: Path, text: str) -> None:
    lines = shown(tmp_path / "t.yaml", text)
    assert any(line.startswith("F") for line in lines)
    assert "hunter2" not in "\n".join(line for line in lines if "api_key" not in line)


def test_every_command_shows_faults_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(changed(("agents: [beta]", "agents: [betta]")))
    fault = f"{path}:41:14: routes.papers.agents[0]: there is no agent betta; did you mean beta? [T203]"
    said = pointsman(capsys, "validate", str(path))
    assert fault in said.out.splitlines()  # beside others, for its agents have no code
    monkeypatch.setenv("POINTSMAN_TOPOLOGY", str(path))
    for command in (["dev"], ["demo"], ["worker"], ["host"], ["store"], ["submit", "x"], ["results"]):
        said = pointsman(capsys, *command)
        assert (said.code, said.out) == (ExitCode.INVALID, "")
        assert said.err.splitlines() == [f"pointsman: {path}: 1 fault", fault]


def test_code_of_agents_is_checked_before_anything_starts(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.yaml"
    path.write_text((repository / "topology.yaml").read_text().replace("finance:sql", "finance:sqll"))
    for command in (["dev", "--data", str(tmp_path / "data")], ["demo", "--keep", str(tmp_path / "data")]):
        said = pointsman(capsys, *command, "--topology", str(path))
        assert said.code == ExitCode.INVALID
        assert f"pointsman: {path}: 1 fault" in said.err.splitlines()[:2]
        assert said.err.endswith(" [T403]\n")
    assert not (tmp_path / "data").exists()


def test_a_screen_is_told_how_to_ask_for_more(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(changed(("agents: [beta]", "agents: [betta]")))
    out = Output(io.StringIO(), Screen())
    assert run(["worker", "--topology", str(path)], out) == ExitCode.INVALID
    assert isinstance(out.err, Screen)
    lines = out.err.getvalue().splitlines()
    assert lines[2:] == [
        "   41 |     agents: [betta]",
        "      |              ^^^^^",
        "`pointsman explain T203` says more.",
    ]
    out = Output(io.StringIO(), Screen())
    assert run(["explain", "T999"], out) == ExitCode.NOT_FOUND
    assert isinstance(out.err, Screen)
    assert out.err.getvalue().splitlines()[-1] == "`pointsman explain E402` says more."


MIXED = """
kafka: {securty.protocol: SSL, linger.ms: "a while", bootstrap.servers: "kafka:9092", client.id: mine}
agents:
  echo: {run: "agents.builtin.echo:repli", effect: read}
  faulty: {run: "agents.builtin.echo:nothing", effect: raed}
  other: {run: "agents.builtin.echo:reply", effect: read, options: {confidense: 1.0}}
routes:
  one: {agents: [echo, faulty, others], fallback: {answer: "Nobody knows."}}
default_route: one
"""


def test_what_the_file_alone_cannot_tell_is_told_with_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """But nothing more of an agent or a property that has a fault already."""
    path = tmp_path / "t.yaml"
    path.write_text(MIXED)
    said = pointsman(capsys, "validate", str(path))
    assert said.code == ExitCode.INVALID
    assert [line.removeprefix(f"{path}:") for line in said.out.splitlines()] == [
        "2:9: kafka.securty.protocol: is no property of librdkafka; did you mean security.protocol? [T312]",
        "2:32: kafka.linger.ms: librdkafka does not take this value [T312]",
        "2:54: kafka.bootstrap.servers: leave it out: --broker or POINTSMAN_BROKER names the brokers [T312]",
        "4:15: agents.echo.run: agents.builtin.echo has no function repli; did you mean reply? [T403]",
        "5:56: agents.faulty.effect: must be read, idempotent or write, but is 'raed'; did you mean read? [T105]",
        (
            "6:69: agents.other.options.confidense: agents.builtin.echo:reply takes no option confidense; "
            "did you mean confidence? [T405]"
        ),
        "8:32: routes.one.agents[2]: there is no agent others; did you mean other? [T203]",
    ]
