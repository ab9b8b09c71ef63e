"""What the ids of the producers' own schema registry mean: learnt at start, asked for once where a new one comes.

Whoever reads never waits for the registry. An id is known, known to be none, or asked for in a thread of its own;
records under it are held back meanwhile (streams/transport/held.py). While the registry is away, what is known stays
known, and one request a few seconds is all that it gets. I/O: HTTP, through the client; the clock.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from schemas.codec import plan
from schemas.codes import ErrorCode
from schemas.definitions import Definition, UnsupportedSchemaError, expand, parse
from schemas.errors import ConfigurationError, UnreachableError
from schemas.records import record
from schemas.registry import Entry, FileRegistry
from schemas.settings import Settings
from schemas.topics import Topics
from streams.transport.registry_client import RegistryClient, RegistryRefusedError
from streams.transport.telemetry import SCHEMA_LOOKUPS, get_logger

log = get_logger("pointsman.schemas")

RECORD = "TaskSubmitted"  # what others write
KNOWN_MAX = 10_000
ABSENT_MAX = 100_000
ABSENT_S = 60.0
# Behind a load balancer an instance may not yet know what another has registered: a no is asked for twice.
CONFIRM_S = 0.25
LOOKUPS_PER_S_MAX = 100
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
LEARN_S = 3.0
VERSIONS_MAX = 200  # of a subject, the newest; an older one is asked for when it comes
JOIN_S = 0.5


class Client(Protocol):
    """The part of streams.transport.registry_client.RegistryClient that is used here."""

    def schema(self, schema_id: int) -> str | None: ...

    def versions(self, subject: str) -> list[int]: ...

    def version(self, subject: str, version: int) -> tuple[int, str] | None: ...


class AmbiguousIdError(ConfigurationError):
    """An id means one thing in the file and another in the registry, for the same record."""

    error_code = ErrorCode.AMBIGUOUS_SCHEMA_ID

    def __init__(self, schema_id: int) -> None:
        super().__init__(
            f"schema id {schema_id} is one {RECORD} in schemas/registry.json and another one in the schema registry: a "
            "record under it could be read in two ways. Delete that schema in the registry and register it again, "
            "under another id; or leave POINTSMAN_SCHEMA_REGISTRY unset, and have producers use the ids of the file."
        )


def subjects_of(topics: Topics) -> tuple[str, str, str]:
    """Where a task's schema stands, by the naming strategies of Confluent's serializers."""
    name = record(RECORD).subject
    return f"{topics.submitted}-value", name, f"{topics.submitted}-{name}"


class ForeignIds:
    """Knows the schemas of the registry's ids, in the thread that `start` starts; `close` ends it."""

    def __init__(self, client: Client, file: FileRegistry, topics: Topics) -> None:
        self._client, self._subjects = client, subjects_of(topics)
        self._entries = file.versions(record(RECORD).subject)
        self._own = {entry.id for entry in self._entries}
        self._texts: dict[int, str] = {}
        self._unfit: dict[int, str] = {}
        self._used: dict[int, float] = {}
        self._absent: dict[int, float] = {}  # until when this is believed
        self._asked: set[int] = set()
        self._queue: queue.Queue[int | None] = queue.Queue()
        self._again: deque[tuple[float, int]] = deque()
        self._learnt, self._stopping = threading.Event(), threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="schema-registry", daemon=True)

    def start(self) -> None:
        """Learns what the registry has, for LEARN_S at most; a registry that is away does not keep anybody.

        Raises AmbiguousIdError.
        """
        self._thread.start()
        self._learnt.wait(LEARN_S)
        self._check()

    def close(self) -> None:
        self._stopping.set()
        self._queue.put(None)
        self._thread.join(JOIN_S)

    def text(self, schema_id: int) -> str | None:
        """The schema of an id that is settled; None where there is none.

        Raises UnsupportedSchemaError where no task can be read by it.
        """
        if schema_id in self._unfit:
            raise UnsupportedSchemaError(self._unfit[schema_id])
        return self._texts.get(schema_id)

    def unsettled(self, ids: Iterable[int]) -> set[int]:
        """Those of which nothing is known yet, and which are being asked for; records under the others may go on.

        Raises what ended the thread, among it AmbiguousIdError where that was found out later.
        """
        self._check()
        now = time.monotonic()
        unknown = set()
        for each in ids:
            if each in self._texts:
                self._used[each] = now
            elif not (each in self._own or each in self._unfit or self._absent.get(each, 0.0) > now):
                unknown.add(each)
        for each in unknown - self._asked:
            self._asked.add(each)
            self._queue.put(each)
        return unknown

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    # ------------------------------------------------------------------ in the thread

    def _run(self) -> None:
        try:
            try:
                self._until_answered(self._learn)
            except RegistryRefusedError as error:  # it may allow no more than consumers need: ids one by one
                log.warning("the schema registry lists nothing; ids are asked for as they come", why=str(error))
            self._learnt.set()
            while (asked := self._next()) is not None:
                self._until_answered(lambda each=asked: self._look_up(*each), may_refuse=False)  # type: ignore[misc]
                self._stopping.wait(1 / LOOKUPS_PER_S_MAX)
        except Exception as error:  # noqa: BLE001  not swallowed: whoever asks next raises it
            self._failure = error
        finally:
            self._learnt.set()

    def _until_answered(self, work: Callable[[], None], *, may_refuse: bool = True) -> None:
        """Again and again while the registry is away, ever more slowly. Raises RegistryRefusedError if it may."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                work()
            except (UnreachableError, RegistryRefusedError) as error:
                SCHEMA_LOOKUPS.labels("failed").inc()
                if may_refuse and isinstance(error, RegistryRefusedError):
                    raise
                if attempt == 0:
                    log.warning("the schema registry does not answer; records under new ids wait", why=str(error))
                self._stopping.wait(BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)])
                attempt += 1
            else:
                if attempt:
                    log.info("the schema registry answers again")
                return

    def _learn(self) -> None:
        refuse_ambiguous(self._client, self._entries)
        for subject in self._subjects:
            for version in self._client.versions(subject)[-VERSIONS_MAX:]:
                found = self._client.version(subject, version)
                if found is not None and found[0] not in self._own:
                    self._keep(*found)
        today = record(RECORD).definition
        registered = sorted(each for each, text in self._texts.items() if parsed(text) == today)
        log.info("schema registry read", readable=len(self._texts), unfit=len(self._unfit), todays_task=registered)
        if not registered:
            log.warning("today's task is not in the schema registry; `pointsman schemas push` would register it")

    def _next(self) -> tuple[int, bool] | None:
        """The id to ask for, and whether it was answered with no before; None when it is time to end."""
        while not self._stopping.is_set():
            due_in = self._again[0][0] - time.monotonic() if self._again else None
            if due_in is not None and due_in <= 0:
                return self._again.popleft()[1], True
            try:
                new = self._queue.get(timeout=due_in)
            except queue.Empty:
                continue
            return None if new is None else (new, False)
        return None

    def _look_up(self, schema_id: int, is_second: bool) -> None:
        text = self._client.schema(schema_id)
        if text is not None:
            SCHEMA_LOOKUPS.labels("found").inc()
            self._keep(schema_id, text)
        elif not is_second:
            self._again.append((time.monotonic() + CONFIRM_S, schema_id))
            return
        else:
            SCHEMA_LOOKUPS.labels("absent").inc()
            _make_room(self._absent, ABSENT_MAX, self._absent)
            self._absent[schema_id] = time.monotonic() + ABSENT_S
        self._asked.discard(schema_id)

    def _keep(self, schema_id: int, text: str) -> None:
        try:
            plan(text, record(RECORD))
        except UnsupportedSchemaError as error:
            log.warning("a schema of the registry cannot be read as a task", schema_id=schema_id, why=str(error))
            _make_room(self._unfit, KNOWN_MAX, {})
            self._unfit[schema_id] = str(error)
            return
        _make_room(self._texts, KNOWN_MAX, self._used)
        self._used[schema_id] = time.monotonic()
        self._texts[schema_id] = text


@contextmanager
def foreign_ids(settings: Settings, file: FileRegistry, topics: Topics) -> Iterator[ForeignIds | None]:
    """The ids of the registry that the settings name, for as long as this context; None where they name none.

    Raises AmbiguousIdError.
    """
    if not settings.schema_registry:
        yield None
        return
    client = RegistryClient.of(settings)
    ids = ForeignIds(client, file, topics)
    try:
        ids.start()
        yield ids
    finally:
        ids.close()
        client.close()


def _make_room(held: dict[int, str] | dict[int, float], most: int, stamps: dict[int, float]) -> None:
    """The one whose stamp is the oldest goes; only the thread that fills it may call this."""
    if len(held) >= most:
        oldest = min(list(held), key=lambda each: stamps.get(each, 0.0))
        del held[oldest]
        stamps.pop(oldest, None)


def refuse_ambiguous(client: Client, entries: Iterable[Entry]) -> None:
    """Raises AmbiguousIdError where the registry has another task under the id of one of these."""
    for entry in entries:
        text = client.schema(entry.id)
        if text is not None and _is_another(text, entry.definition):
            raise AmbiguousIdError(entry.id)


def parsed(text: str) -> Definition:
    """The expanded schema; None, which no schema of ours is, for what cannot be read."""
    try:
        return parse(text)
    except UnsupportedSchemaError:
        return None


def _is_another(text: str, own: Definition) -> bool:
    """Whether the text is a schema of the same record as `own`, and not the same schema."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(document, dict):
        return False
    name, space = str(document.get("name", "")), document.get("namespace", "")
    same_name = (name if "." in name or not space else f"{space}.{name}") == record(RECORD).subject
    return same_name and parsed(text) != expand(own)
