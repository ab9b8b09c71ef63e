"""One simulated run: a seed's scenario played to its end, and every invariant asked about it.

I/O: none.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from loadtest.invariants import Mode
from streams.transport.partitioner import partition_of
from tests.simulation import agents
from tests.simulation.deployment import Deployment, Slot, staged
from tests.simulation.evidence import Evidence
from tests.simulation.faults import FAULTS_S, Fault
from tests.simulation.house import House
from tests.simulation.judge import Breach, judge
from tests.simulation.log import Record
from tests.simulation.scenario import REST_S, Scenario, Submitted, draw
from tests.simulation.shared import shared_codec
from tests.simulation.wire import Cluster, Weather
from tests.simulation.world import World

LOOK_S = 0.5
LINGER_S = 0.1
"""How long the submitter waits for more, where record batches are read whole: they are to hold several."""

STOP_S = 6.0
"""P11: who is told to stop has ended within this time: four seconds, and what a slow machine adds."""


@dataclass
class Report:
    """What came of one seed. `points`: client calls at which a process could have been killed or stopped."""

    seed: int
    profile: str
    slots: tuple[str, ...]
    faults: tuple[str, ...]
    breaches: list[Breach]
    trace: list[str]
    points: int


class Run:
    """Methods named by `Fault.act` do what it says."""

    def __init__(self, scenario: Scenario, *, traced: bool) -> None:
        self.scenario = scenario
        self.world = World(scenario.seed)
        self.world.trace = [] if traced else None
        self.cluster = Cluster(self.world)
        self.cluster.weather = scenario.weather
        self.stage = agents.Stage(self.world, scenario.parts)
        self.house = House(self.world)
        self.house.lost_answers_share = scenario.lost_inserts_share
        self.deployment: Deployment
        self.evidence = Evidence(self.cluster, scenario.topology, self.stage, self.house)
        self.overran: list[str] = []
        self._unsent: list[tuple[tuple[str, int], Record]] = []
        self._armed: list[tuple[Slot, Fault]] = []
        self.points = 0

    def play(self) -> Report:
        random.seed(self.scenario.seed)
        agents.play(self.stage)
        scenario = self.scenario
        has_turns, fetches = scenario.has_turns, scenario.fetches
        with staged(self.cluster, scenario.topology, self.house, has_turns=has_turns, fetches=fetches):
            try:
                self._play()
                return self._report(judge(self))
            finally:
                # While the stand-ins still stand: what is unwound runs the product's code.
                self.world.close()
                agents.play(None)

    def _play(self) -> None:
        world, scenario = self.world, self.scenario
        self.deployment = Deployment(
            self.cluster, scenario.topology, scenario.skew_s, self._pointed, has_slots=scenario.has_slots
        )
        self.evidence.watch()
        for kind, name in scenario.slots:
            self.deployment.add(kind, name)
        for submitted in scenario.submissions:
            world.at(submitted.at, lambda submitted=submitted: self._submit(submitted))  # type: ignore[misc]
        for fault in scenario.faults:
            world.at(fault.at, lambda fault=fault: self._do(fault))  # type: ignore[misc]
        self._clean_logs()
        world.run(min(scenario.last_s, FAULTS_S))
        while world.now < FAULTS_S and not self._is_over():
            world.run(world.now + LOOK_S)
        self._heal()
        while world.now < REST_S and not self.evidence.is_at_rest(self.deployment):
            world.run(world.now + LOOK_S)

    def _clean_logs(self) -> None:
        """Compacted topics are, now and then."""
        self.cluster.broker.compact()
        self.world.at(self.world.rng.uniform(0.5, 4.0), self._clean_logs)

    def _is_over(self) -> bool:
        """Whether there is nothing left that a fault could meet."""
        stopped = any(slot.process.is_paused for slot in self.deployment.slots)
        return not stopped and self.evidence.is_at_rest(self.deployment)

    def _report(self, breaches: list[Breach]) -> Report:
        scenario = self.scenario
        slots = tuple(name for _, name in scenario.slots)
        if scenario.mode is Mode.EXACTLY_ONCE:
            slots = (*slots, f"{scenario.mode}{', with slots' if scenario.has_slots else ''}")
        elif scenario.has_turns:
            slots = (*slots, "with the producer of turns")
        if scenario.fetches:
            slots = (*slots, f"with fetches of {scenario.fetches.FETCH_BYTES_MAX} bytes")
        faults = tuple(map(str, scenario.faults))
        trace = list(self.world.trace or ())
        return Report(scenario.seed, scenario.profile, slots, faults, breaches, trace, self.points)

    def _submit(self, submitted: Submitted) -> None:
        """By a producer that is not idempotent, and has all time that it needs."""
        if not self.cluster.broker.is_up:
            self.world.at(0.3, lambda: self._submit(submitted))
            return
        topology = self.scenario.topology
        value, key = submitted.value, submitted.key
        if submitted.task is not None:
            value = encoded(submitted, self.world.now_ms() * 1000, topology.limits.record_bytes_max)
        topic = topology.topics().submitted
        number = 0 if key is None else partition_of(key, topology.partitions)
        what = "garbage" if submitted.task is None else submitted.task["task_id"]
        self.world.note("submitter", f"{what} to [{number}]")
        self._unsent.append(((topic, number), Record(-1, -1, key, value, [], writer="submitter")))
        if self.scenario.fetches:
            self.world.at(LINGER_S, self._send)
        else:
            self._send()

    def _send(self) -> None:
        """What has come together goes in one record batch of each partition."""
        if not self.cluster.broker.is_up:
            self.world.at(0.3, self._send)
            return
        unsent, self._unsent = self._unsent, []
        for tp in dict.fromkeys(tp for tp, _ in unsent):
            self.cluster.broker.append(tp, [record for its, record in unsent if its == tp])

    # ------------------------------------------------------------------ what goes wrong

    def _do(self, fault: Fault) -> None:
        act: Callable[[Fault], None] = getattr(self, fault.act)
        act(fault)

    def _slot(self, fault: Fault) -> Slot:
        return self.deployment.slots[fault.slot % len(self.deployment.slots)]

    def _pointed(self, slot: Slot) -> Callable[[str], None]:
        def reached(what: str) -> None:
            self.points += 1
            for armed in self._armed:
                if armed[0] is slot and armed[1].point == what:
                    self._armed.remove(armed)
                    self._strike(*armed)
                    return

        return reached

    def _strike(self, slot: Slot, fault: Fault) -> None:
        process = slot.process
        if fault.act == "kill":
            self.world.note(process.name, f"struck at {fault.point or 'any point'}")
            process.kill()
        else:
            process.pause()
            self.world.at(fault.for_s, process.resume)

    def kill(self, fault: Fault) -> None:
        if fault.point:
            self._armed.append((self._slot(fault), fault))
        else:
            self._strike(self._slot(fault), fault)

    pause = kill

    def stop(self, fault: Fault) -> None:
        slot = self._slot(fault)
        if slot.is_ready:
            self._expect_the_end(slot)
        slot.stop()

    def retire(self, fault: Fault) -> None:
        slot = self._slot(fault)
        if sum(each.is_wanted and each.kind == slot.kind for each in self.deployment.slots) > 1:
            if slot.is_ready:
                self._expect_the_end(slot)
            slot.retire()

    def _expect_the_end(self, slot: Slot) -> None:
        process = slot.process

        def look() -> None:
            if process.is_alive and not process.was_paused:
                self.overran.append(process.name)

        self.world.at(STOP_S + self.scenario.weather.slow_max_s, look)

    def add_worker(self, _fault: Fault) -> None:
        self.deployment.add("worker", f"w{len(self.deployment.slots) + 1}")

    def add_host(self, _fault: Fault) -> None:
        self.deployment.add("host", f"h{len(self.deployment.slots) + 1}")

    def add_store(self, _fault: Fault) -> None:
        self.deployment.add("store", f"s{len(self.deployment.slots) + 1}")

    def lose_hosts(self, fault: Fault) -> None:
        """They come back when their time is over."""
        for slot in [each for each in self.deployment.slots if each.kind == "host"]:
            slot.is_wanted = False
            slot.process.kill()
            self.world.at(fault.for_s, slot.bring_back)

    def outage(self, fault: Fault) -> None:
        if self.cluster.broker.is_up:
            self.cluster.broker.stop()
            self.world.at(fault.for_s, self._up)

    def _up(self) -> None:
        if not self.cluster.broker.is_up:
            self.cluster.broker.start()

    def refuse(self, fault: Fault) -> None:
        """One topic takes nothing for a while."""
        topics = [name for name in self.cluster.broker.topics if name != self.scenario.topology.topics().submitted]
        topic = topics[fault.slot % len(topics)]
        self.world.note("broker", f"refuses what is written to {topic}")
        self.cluster.broker.refused.add(topic)
        self.world.at(fault.for_s, lambda: self.cluster.broker.refused.discard(topic))

    def store_outage(self, fault: Fault) -> None:
        """ClickHouse takes nothing for a while."""
        self.world.note("clickhouse", "DOWN")
        self.house.is_up = False
        self.world.at(fault.for_s, self._store_up)

    def _store_up(self) -> None:
        self.house.is_up = True

    def _heal(self) -> None:
        self.world.note("world", "nothing goes wrong from here on")
        self._armed.clear()
        self.cluster.weather = Weather()
        self.world.at(0.0, self._up)
        self._store_up()
        self.house.lost_answers_share = 0.0
        for slot in self.deployment.slots:
            slot.process.resume()


def encoded(submitted: Submitted, now_us: int, record_bytes_max: int) -> bytes:
    task = submitted.task
    assert task is not None
    columns = {"text": "do it", "submitted_at": now_us, **task}
    return shared_codec(record_bytes_max).encode_values(columns, 1, "TaskSubmitted")[0]


def play(seed: int, profile: str | None = None, *, traced: bool = False) -> Report:
    return Run(draw(seed, profile), traced=traced).play()
