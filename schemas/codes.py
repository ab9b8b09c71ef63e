"""The short codes of all that can be wrong: T... for faults of a topology, E... for what ends a command.

A code never changes its meaning and is never used again. What each one means, and what to do, is said in
`console/explained/`; the reasons of decisions and dead letters (`schemas/reasons.py`) are their own codes. I/O: none.
"""

from __future__ import annotations

from enum import StrEnum


class FaultCode(StrEnum):
    """A fault of a topology. T0 the file and its YAML, T1 shapes, T2 names, T3 rules, T4 the code of agents."""

    UNREADABLE_FILE = "T001"
    NOT_UTF8 = "T002"
    FILE_TOO_LARGE = "T003"
    NOT_YAML = "T004"
    NESTED_TOO_DEEPLY = "T005"
    ANCHOR = "T006"
    TAG = "T007"
    DIRECTIVE = "T008"
    SECOND_DOCUMENT = "T009"
    KEY_NOT_TEXT = "T010"
    KEY_TWICE = "T011"
    HALF_CHARACTER = "T012"
    NO_MAPPING = "T013"

    UNKNOWN_KEY = "T101"
    MISSING_KEY = "T102"
    WRONG_TYPE = "T103"
    OUT_OF_RANGE = "T104"
    NOT_A_CHOICE = "T105"
    WRONG_FORM = "T106"
    EMPTY = "T107"
    TOO_LONG = "T108"

    AGENT_NAME = "T201"
    INTENT_NAME = "T202"
    UNKNOWN_AGENT = "T203"
    UNKNOWN_ROUTE = "T204"
    AGENT_TWICE = "T205"
    TOPIC_NAME_TOO_LONG = "T206"
    PHRASE_TWICE = "T207"

    NO_FALLBACK = "T301"
    BLANK_ANSWER = "T302"
    WRITER_IN_PANEL = "T303"
    PANEL_TOO_SMALL = "T304"
    DEADLINE_TOO_FAR = "T305"
    DEADLINE_BELOW_TIMEOUT = "T306"
    OUT_OF_ORDER = "T307"
    BEYOND_RETENTION = "T308"
    SECRET = "T309"  # noqa: S105  a code, not a secret
    KEY_OF_ANOTHER_KIND = "T310"
    HEADER_OF_THE_HOST = "T311"
    KAFKA_PROPERTY = "T312"

    NO_MODULE = "T401"
    MODULE_FAILS = "T402"
    NO_FUNCTION = "T403"
    NOT_CALLABLE = "T404"
    UNKNOWN_OPTION = "T405"
    WRONG_SIGNATURE = "T406"
    ASYNC_BATCH = "T407"
    NO_PROGRAM = "T408"
    NO_FOLDER = "T409"
    VARIABLE_UNSET = "T410"
    VARIABLE_UNFIT = "T411"
    NO_SANDBOX = "T412"


class ErrorCode(StrEnum):
    """What ends a command or a process; the first digit is its exit code."""

    UNEXPECTED = "E100"
    FAILED = "E101"
    NOT_DELIVERED = "E102"
    CLIENT_GAVE_UP = "E103"
    COMMIT_REJECTED = "E104"
    COMMIT_UNAVAILABLE = "E105"
    NO_RESULT = "E106"
    PROCESS_ENDED = "E107"
    ENDED_UNASKED = "E108"
    QUERY_REFUSED = "E109"
    ENGINE_FAILED = "E110"
    UNKNOWN_SCHEMA_ID = "E111"
    UNWRITABLE = "E112"
    NO_ROOM = "E113"
    CANNOT_RELOAD = "E114"
    CODE_NOT_CHECKED = "E115"
    TRANSACTION_LOST = "E116"
    REDRIVE = "E117"
    TRANSACTION_HANGS = "E118"
    NO_COORDINATOR = "E119"

    COMMAND_LINE = "E200"
    NOTHING_TO_SUBMIT = "E201"
    FLAG_VALUE = "E202"
    TASK_ID_OF_A_FILE = "E203"
    SEVERAL_TENANTS = "E204"
    NO_TEXT = "E205"
    NOT_CONFIRMED = "E206"
    FLAGS_CONTRADICT = "E207"
    NO_REGISTRY_NAMED = "E208"
    NO_LETTERS_CHOSEN = "E209"

    UNREACHABLE = "E300"
    NO_BROKER = "E301"
    NO_TOPICS = "E302"
    NO_CLICKHOUSE = "E303"
    LOCAL_BROKER = "E304"
    NO_REGISTRY = "E305"

    NOT_FOUND = "E400"
    NO_TASK = "E401"
    NO_CODE = "E402"
    NO_SCHEMA = "E403"
    NO_TOPIC = "E404"
    NO_AGENT = "E405"
    NO_PLAN = "E406"
    NO_LETTER = "E407"
    NO_REPORT = "E408"
    NO_EVAL_DATA = "E409"
    NO_MEMORY = "E410"

    INVALID = "E500"
    FAULTY_TOPOLOGY = "E501"
    NO_TOPOLOGY = "E502"
    SETTING = "E503"
    KAFKA_CONFIG = "E504"
    TASK_FILE = "E505"
    TASK_REFUSED = "E506"
    REGISTRY_FILE = "E507"
    UNREGISTERED_SCHEMA = "E508"
    UNSUPPORTED_SCHEMA = "E509"
    TOPICS_DIFFER = "E510"
    TOPIC_REQUEST = "E511"
    NO_POSITION = "E512"
    HISTORY_PORT = "E513"
    HISTORY_ADDRESS = "E514"
    HISTORY_DIRECTORY = "E515"
    MIGRATIONS = "E516"
    FOLDER_NOT_EMPTY = "E517"
    PREREQUISITES = "E518"
    DIRECTORY_IN_USE = "E519"
    KAFKA_STORAGE = "E520"
    PHRASES = "E521"
    REGISTRY_ADDRESS = "E522"
    PORT_TAKEN = "E523"
    DATA_DIRECTORY = "E524"
    DATA_OF_ANOTHER_VERSION = "E525"
    DISK_FULL = "E526"
    CLICKHOUSE_LOGIN = "E527"
    LOCAL_BROKER_FAULT = "E528"
    PLACE = "E529"
    REGISTRY_REFUSED = "E530"
    REGISTRY_CONFLICT = "E531"
    AMBIGUOUS_SCHEMA_ID = "E532"
    IN_THE_WAY = "E533"
    BY_HAND = "E534"
    FAULTY_PLAN = "E535"
    SCENARIO = "E536"
    REPORT = "E537"
    EVAL_DATA = "E538"
    HISTORY_OWNER = "E539"


# Faults of a key itself, not of the value that stands behind it.
OF_THE_KEY = frozenset(
    {
        *(FaultCode.UNKNOWN_KEY, FaultCode.AGENT_NAME, FaultCode.INTENT_NAME, FaultCode.TOPIC_NAME_TOO_LONG),
        *(FaultCode.SECRET, FaultCode.UNKNOWN_OPTION, FaultCode.KEY_OF_ANOTHER_KIND, FaultCode.HEADER_OF_THE_HOST),
        FaultCode.KAFKA_PROPERTY,
    }
)
