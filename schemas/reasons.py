"""The codes that explain a decision: why an agent was asked, why a task ended, why a record was refused.

They travel in the `reason` and `error_class` fields as text, so that an older reader shows a newer code instead of
losing it. I/O: none.
"""

from enum import StrEnum


class DispatchReason(StrEnum):
    """Why this agent, now."""

    ROUTED = "ROUTED"
    PANEL = "PANEL"
    LOW_CONFIDENCE = "LOW_CONFIDENCE"
    BREAKER_OPEN = "BREAKER_OPEN"  # an agent before it in the chain was passed over
    BREAKER_FLOOR = "BREAKER_FLOOR"  # no agent of the route is available; the first is asked all the same
    AGENT_PAUSED = "AGENT_PAUSED"  # an agent before it in the chain was passed over: a person paused or retired it
    PANEL_TOO_SMALL = "PANEL_TOO_SMALL"  # too few agents may vote; one is asked
    PROBE = "PROBE"
    TIEBREAK = "TIEBREAK"
    REGROUND = "REGROUND"
    CASCADE = "CASCADE"


class FailReason(StrEnum):
    """Why an attempt did not count as an answer."""

    FAILED = "FAILED"
    REFUSED = "REFUSED"
    TIMED_OUT = "TIMED_OUT"
    LOW_CONFIDENCE = "LOW_CONFIDENCE"
    UNGROUNDED = "UNGROUNDED"
    INVALID_CONFIDENCE = "INVALID_CONFIDENCE"
    OVERLOADED = "OVERLOADED"
    PAUSED = "PAUSED"
    WRONG_INPUT = "WRONG_INPUT"
    UNKNOWN_OUTCOME = "UNKNOWN_OUTCOME"


class ErrorClass(StrEnum):
    """What a FAILED event says of its cause: the reaction that it asks for.

    OVERLOADED and QUOTA move on and do not count against the agent, and so does PAUSED: a person paused or retired the
    agent, and its host did not call it. WRONG_INPUT does neither; UNKNOWN_OUTCOME says that the host cannot tell
    whether the work was done. Any other text counts as INTERNAL.
    """

    INTERNAL = "INTERNAL"
    TIMEOUT = "TIMEOUT"
    UNREACHABLE = "UNREACHABLE"
    OVERLOADED = "OVERLOADED"
    QUOTA = "QUOTA"
    PAUSED = "PAUSED"
    WRONG_INPUT = "WRONG_INPUT"
    UNKNOWN_OUTCOME = "UNKNOWN_OUTCOME"


class ResultReason(StrEnum):
    """Why a task ended as it did."""

    ANSWERED = "ANSWERED"
    CONSENSUS = "CONSENSUS"
    REGROUNDED = "REGROUNDED"
    RULE = "RULE"
    LOW_CONFIDENCE = "LOW_CONFIDENCE"
    BREAKER_FLOOR = "BREAKER_FLOOR"
    FALLBACK_AGENT = "FALLBACK_AGENT"
    FALLBACK_ANSWER = "FALLBACK_ANSWER"
    CHAIN_EXHAUSTED = "CHAIN_EXHAUSTED"
    AGENTS_PAUSED = "AGENTS_PAUSED"
    NO_QUORUM = "NO_QUORUM"
    NO_CONSENSUS = "NO_CONSENSUS"
    WRITE_UNCERTAIN = "WRITE_UNCERTAIN"
    WRONG_INPUT = "WRONG_INPUT"
    DEADLINE = "DEADLINE"
    INVALID_TASK_ID = "INVALID_TASK_ID"
    INVALID_CONFIDENCE = "INVALID_CONFIDENCE"
    INVALID_BUDGET = "INVALID_BUDGET"
    INVALID_DEADLINE = "INVALID_DEADLINE"
    INVALID_DEPTH = "INVALID_DEPTH"
    INVALID_SUBMITTED_AT = "INVALID_SUBMITTED_AT"
    UNKNOWN_INTENT = "UNKNOWN_INTENT"


class PauseReason(StrEnum):
    """Why a topic or an agent was paused, or goes on."""

    DEAD_SHARE = "DEAD_SHARE"  # too many of its records could not be taken
    PAUSED_BY_HAND = "PAUSED_BY_HAND"
    RESUMED_BY_HAND = "RESUMED_BY_HAND"
    RETIRED = "RETIRED"  # of an agent: it is not meant to come back


class AgentState(StrEnum):
    """How an agent stands in the fleet."""

    LIVE = "LIVE"
    PARTLY = "PARTLY"  # some partitions of its inbox have no host
    DOWN = "DOWN"
    PAUSED = "PAUSED"
    RETIRED = "RETIRED"
    ASKED = "ASKED"  # neither paused nor retired


class DeadReason(StrEnum):
    """Why a record went to the dead topic."""

    NULL_VALUE = "NULL_VALUE"
    EMPTY_VALUE = "EMPTY_VALUE"
    OVERSIZED = "OVERSIZED"
    UNFRAMED = "UNFRAMED"  # no magic byte, or shorter than its frame
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    WRONG_SCHEMA = "WRONG_SCHEMA"  # a known schema of another record type
    UNDECODABLE = "UNDECODABLE"
    INVALID_UTF8 = "INVALID_UTF8"
    INVALID_KEY = "INVALID_KEY"  # null, or not UTF-8
    KEY_MISMATCH = "KEY_MISMATCH"


class LateReason(StrEnum):
    """Why an outcome decides nothing, where that is not simply that it came too late."""

    FENCED = "FENCED"  # behind the claim of another host
