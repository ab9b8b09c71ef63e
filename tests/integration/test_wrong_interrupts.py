"""Wrong in many ways, IV: Ctrl-C, once and twice, at each stage of a start, from a checkout in a path with spaces.

Every row ends in bounded time, in silence but for what it says itself, with its exit code and without an orphan.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from console.cli.failures import ExitCode
from schemas.settings import Settings
from schemas.topology import load_topology
from streams.transport.admin import ensure_topics
from tests.support.console import topology_file
from tests.support.wrong import REPOSITORY, Process, Wrong, judge, run

pytestmark = [pytest.mark.broker, pytest.mark.slow]

OK, INTERRUPTED, UNREACHABLE = ExitCode.OK, ExitCode.INTERRUPTED, ExitCode.UNREACHABLE
# A signal that nothing of ours has seen yet ends a process by itself: a shell calls that 130, too.
BY_THE_SIGNAL = -2

ESTABLISHED = "01"  # as /proc/net/tcp has it
Reached = Callable[[Process, Path], bool]


def loaded(library: str) -> Reached:
    """Its modules are on their way in: this one's is there."""

    def reached(process: Process, _place: Path) -> bool:
        with suppress(OSError):
            return library in Path(f"/proc/{process.process.pid}/maps").read_text()
        return False

    return reached


def connected(process: Process, _place: Path) -> bool:
    """It has a connection to somebody: of ours, that is the one who never answers."""
    own = f"/proc/{process.process.pid}"
    with suppress(OSError):
        sockets = {str(each.readlink()) for each in Path(f"{own}/fd").iterdir()}
        lines = [line.split() for line in Path(f"{own}/net/tcp").read_text().splitlines()[1:]]
        return any(state == ESTABLISHED and f"socket:[{line[9]}]" in sockets for line in lines if (state := line[3]))
    return False


def said(text: str) -> Reached:
    return lambda process, _place: text in process.err


def made(path: str) -> Reached:
    return lambda _process, place: any(place.glob(path))


@dataclass(frozen=True)
class Stage:
    """A command, how it is seen that it has come to a stage, and the codes with which Ctrl-C may end it there.

    `{data}` in a word is a folder of the test's own, `{silent}` an address that accepts connections and never answers.
    """

    words: str
    reached: Reached
    once: tuple[int, ...]
    twice: tuple[int, ...] = ()


EARLY = (INTERRUPTED, BY_THE_SIGNAL)
# Not for every stage twice: one that ends within milliseconds has no time for a second press. What `dev` does when it
# serves and is asked once is tests/integration/test_console_dev.py's.
STAGES = {
    "submit, while modules load": Stage("submit x --wait", loaded("libarrow"), EARLY),
    "dev, while modules load": Stage("dev --data {data}", loaded("_pydantic_core"), EARLY),
    "worker, while modules load": Stage(
        "worker --broker {silent}", loaded("confluent_kafka"), (*EARLY, OK, UNREACHABLE), (*EARLY, OK, UNREACHABLE)
    ),
    "validate, while an agent's module loads": Stage("validate {slow}", made("imported"), EARLY, EARLY),
    "dev, while Kafka starts": Stage("dev --data {data}", made("data/broker/server.properties"), (INTERRUPTED,), EARLY),
    "demo, while Kafka starts": Stage("demo --keep {data}", made("data/broker/server.properties"), (INTERRUPTED,)),
    "dev, while processes start": Stage(
        "dev --broker {broker} --data {data}", made("data/logs/store.log"), (INTERRUPTED,)
    ),
    "dev, serving": Stage(
        "dev --broker {broker} --data {data}", said("Ready after"), (), (OK, INTERRUPTED, BY_THE_SIGNAL)
    ),
    "demo, at its tasks": Stage("demo --broker {broker} --keep {data}", said(" up ("), (INTERRUPTED,)),
    "worker, asking a broker": Stage("worker --broker {silent}", said('"starting"'), (UNREACHABLE,), (INTERRUPTED,)),
    "host, asking a broker": Stage("host --broker {silent}", said('"starting"'), (UNREACHABLE,)),
    "store, waiting for ClickHouse": Stage(
        "store --broker {broker} --clickhouse http://{closed}", said("waiting for it"), (OK,), (OK, INTERRUPTED)
    ),
    "worker, serving": Stage("worker --broker {broker}", said('"ready"'), (), (OK, INTERRUPTED)),
    "host, serving": Stage("host --broker {broker}", said('"ready"'), (OK,)),
    "registry, serving": Stage("registry --listen 127.0.0.1:0", said('"ready"'), (OK,)),
    "submit, asking a broker": Stage("submit x --wait --broker {silent}", connected, EARLY, EARLY),
    "submit, waiting": Stage("submit x --wait --broker {broker}", said("waiting"), (INTERRUPTED,)),
    "results, following": Stage("results --follow --broker {broker}", said("following"), (INTERRUPTED,), EARLY),
    "history, asking ClickHouse": Stage("history select --clickhouse http://{silent}", connected, EARLY, EARLY),
    "topics, asking a broker": Stage("topics plan --broker {silent}", connected, EARLY),
}
PRESSES = [
    (name, times) for name, stage in STAGES.items() for times in (1, 2) if (stage.once if times == 1 else stage.twice)
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone holds, in a path with spaces and more that a shell would trip over."""
    folder = tmp_path_factory.mktemp("spaces") / "a path, with 'spaces' & more"
    for package in ("agents", "console", "loadtest", "schemas", "streams"):
        shutil.copytree(REPOSITORY / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "topology.yaml", folder)
    (folder / "ops/broker").mkdir(parents=True)
    (folder / "ops/broker/lib").symlink_to(REPOSITORY / "ops/broker/lib")
    return folder


@pytest.fixture(scope="module")
def deployed(broker: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A topology whose topics are there."""
    path = topology_file(REPOSITORY, tmp_path_factory.mktemp("deployed"), "wrong-interrupts.")
    settings, topology = Settings.resolve({"broker": broker}, {}), load_topology(path)
    ensure_topics(settings, topology.topics().specs(), topology)
    return str(path)


@pytest.fixture(scope="module")
def addresses(broker: str) -> Iterator[dict[str, str]]:
    """Of the broker, of somebody who never answers, and of nobody."""
    with socket.socket() as silent, socket.socket() as closed:
        for each in (silent, closed):
            each.bind(("127.0.0.1", 0))
        silent.listen(64)
        hosts = {name: f"127.0.0.1:{each.getsockname()[1]}" for name, each in (("silent", silent), ("closed", closed))}
        yield {"broker": broker, **hosts}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with spaces for data, and a topology whose agent's module takes its time."""
    folder = tmp_path / "data, in 'spaces'"
    folder.mkdir()
    module = "import pathlib, time\n\npathlib.Path({!r}).touch()\ntime.sleep(60)\n"
    (folder / "wrong_slow_agent.py").write_text(module.format(str(folder / "imported")))
    (folder / "slow.yaml").write_text(
        'agents:\n  slow: {run: "wrong_slow_agent:f", effect: read}\n'
        "routes:\n  one: {agents: [slow], fallback: {answer: none}}\ndefault_route: one\n"
    )
    return folder


@pytest.mark.parametrize(("name", "times"), PRESSES, ids=lambda value: {1: "once", 2: "twice"}.get(value, str(value)))
def test_ctrl_c(
    name: str, times: int, checkout: Path, deployed: str, addresses: dict[str, str], place: Path, tmp_path: Path
) -> None:
    stage = STAGES[name]
    names = {**addresses, "data": str(place / "data"), "slow": str(place / "slow.yaml")}
    words = [word.format(**names) for word in stage.words.split()]
    env = {"POINTSMAN_TOPOLOGY": deployed, "PYTHONPATH": f"{checkout}:{place}"}
    with Process(words, tmp_path, env, cwd=checkout) as process:
        process.wait_for(lambda: stage.reached(process, place), name, 90)
        process.interrupt(times)
        ended = process.ended(30)
    codes = stage.once if times == 1 else stage.twice
    assert ended.code in codes, f"{ended.code}\n{ended.out}\n{ended.err}"
    if ended.code == UNREACHABLE:
        judge(Wrong(name, words, ended.code, []), ended)
    else:  # what it says of the interruption itself has no code to look up
        quiet(ended.out + ended.err)


def quiet(text: str) -> None:
    for noise in ("Traceback", "Exception ignored", ": Unexpected ", "Exception in thread"):
        assert noise not in text, text


def test_a_checkout_in_a_path_with_spaces_is_one_like_any(checkout: Path, tmp_path: Path) -> None:
    for words, says in ((["validate"], "valid, 12 agents"), (["validate", "topology.yaml", "-o", "json"], "true")):
        row = Wrong("", words, OK, [says])
        judge(row, run(row, tmp_path, cwd=checkout))


def test_nothing_is_lost_by_an_interrupted_start(
    checkout: Path, deployed: str, broker: str, place: Path, tmp_path: Path
) -> None:
    """A task that was accepted before has its result after a start that Ctrl-C cut short, and one that was not."""
    env = {"POINTSMAN_TOPOLOGY": deployed, "POINTSMAN_BROKER": broker}
    asked = ["submit", "What was the revenue of EMEA in Q2 2025?", "--task-id", "t-lost"]
    judge(Wrong("", asked, OK, []), run(Wrong("", asked, OK, [], env), tmp_path))
    words = ["dev", "--broker", broker, "--data", str(place / "data")]
    with Process(words, tmp_path, env, cwd=checkout) as cut:
        cut.wait_for(lambda: any(place.glob("data/logs/worker.log")), "the worker", 90)
        cut.interrupt(2)
        assert cut.ended(30).code in EARLY
    with Process(words, tmp_path, env, cwd=checkout) as whole:
        whole.wait_for(lambda: "Ready after" in whole.err, "readiness", 90)
        results = Wrong("", ["results", "--from-beginning", "-o", "jsonl"], OK, [], env)
        whole.wait_for(lambda: "t-lost" in run(results, tmp_path).out, "the result", 60)
        whole.interrupt()
        assert whole.ended(30).code == OK
    found = [row["answer"] for row in run(results, tmp_path).rows if row["task_id"] == "t-lost"]
    assert found == ["Revenue of EMEA in Q2 2025: 2,931,383 USD."]
