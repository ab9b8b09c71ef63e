"""One HTTP exchange as ClickHouse speaks it: what a request asks for, and the headers and status of its answer.

I/O: reads the request's body (streams/history/bodies.py).
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from itertools import chain
from urllib.parse import parse_qsl

from streams.history.bodies import Stream, gathered, read_body
from streams.history.engine import Answer, EngineError, fault

DEFAULT_USER = "default"
SESSION_TIMEOUT_S_MAX = 3600

# Parameters that say how to run a statement; every other one is a setting, or a parameter of the query (`param_*`).
_IGNORED = frozenset(
    {
        *("query_id", "quota_key", "wait_end_of_query", "client_protocol_version", "stacktrace"),
        # An answer here is whole when its first byte leaves, so these settings have nothing to act on.
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms", "http_wait_end_of_query"),
        *(
            "cancel_http_readonly_queries_on_client_close",
            "http_response_buffer_size",
            "http_write_exception_in_output_format",
        ),
    }
)
_UNSUPPORTED = frozenset({"compress", "decompress", "role", "session_check"})

# As ClickHouse maps them (HTTPHandler, exceptionCodeToHTTPStatus); everything else is 500.
_STATUS_BY_NAME: Mapping[str, int] = {
    "REQUIRED_PASSWORD": 401,
    **dict.fromkeys(("UNKNOWN_USER", "WRONG_PASSWORD", "AUTHENTICATION_FAILED", "ACCESS_DENIED"), 403),
    **dict.fromkeys(
        (
            *("BAD_ARGUMENTS", "CANNOT_COMPILE_REGEXP", "CANNOT_PARSE_TEXT", "CANNOT_PARSE_ESCAPE_SEQUENCE"),
            *("CANNOT_PARSE_QUOTED_STRING", "CANNOT_PARSE_INPUT_ASSERTION_FAILED", "CANNOT_PARSE_DATE"),
            *(
                "CANNOT_PARSE_DATETIME",
                "CANNOT_PARSE_NUMBER",
                "CANNOT_PARSE_UUID",
                "DUPLICATE_COLUMN",
                "ILLEGAL_COLUMN",
            ),
            *("THERE_IS_NO_COLUMN", "SYNTAX_ERROR", "INCORRECT_DATA", "TYPE_MISMATCH"),
            "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
        ),
        400,
    ),
    **dict.fromkeys(
        (
            *("UNKNOWN_TABLE", "UNKNOWN_FUNCTION", "UNKNOWN_IDENTIFIER", "UNKNOWN_TYPE", "UNKNOWN_STORAGE"),
            *("UNKNOWN_DATABASE", "UNKNOWN_SETTING", "UNKNOWN_DIRECTION_OF_SORTING", "UNKNOWN_AGGREGATE_FUNCTION"),
            *("UNKNOWN_FORMAT", "UNKNOWN_DATABASE_ENGINE", "UNKNOWN_TYPE_OF_QUERY"),
        ),
        404,
    ),
    "TIMEOUT_EXCEEDED": 408,
    "QUERY_IS_TOO_LARGE": 413,
    "NOT_IMPLEMENTED": 501,
    **dict.fromkeys(("SOCKET_TIMEOUT", "CANNOT_OPEN_FILE", "CANNOT_SCHEDULE_TASK"), 503),
}
_CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=UTF-8",
    "Pretty": "text/plain; charset=UTF-8",
    "PrettyCompact": "text/plain; charset=UTF-8",
    "Vertical": "text/plain; charset=UTF-8",
    "Arrow": "application/vnd.apache.arrow.file",
    "ArrowStream": "application/vnd.apache.arrow.stream",
}


def status_of(error: EngineError) -> int:
    """The HTTP status that ClickHouse gives this error."""
    return _STATUS_BY_NAME.get(error.name, 500)


@dataclass(slots=True)
class Request:
    """What a request asks for. `body` gives its bytes, decoded, piece by piece; it can be read once.

    `spooled`: the answer may be larger than memory. As ClickHouse's, a client says so with `buffer_size`, beyond which
    what has to wait for the query's end waits in a file; here all of it does.
    """

    query: bytes
    body: Iterator[bytes]
    user: str = DEFAULT_USER
    password: str = ""
    database: str = ""
    session_id: str = ""
    session_timeout_s: float = 60.0
    output: str = "TabSeparated"
    compressed: bool = False
    spooled: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)


def read_request(query_string: str, headers: Message, stream: Stream, *, read_only: bool) -> Request:
    """Raises EngineError for what ClickHouse, or this door, does not take."""
    body = read_body(headers, stream)
    fields = parse_qsl(query_string, keep_blank_values=True, encoding="utf-8", errors="surrogateescape")
    if headers.get_content_type() == "multipart/form-data":
        fields += _form(headers, gathered(body))
        body = iter(())
    request = Request(b"", body, *_credentials(headers))
    request.database = headers.get("X-ClickHouse-Database", "")
    request.output = headers.get("X-ClickHouse-Format") or request.output
    for name, value in fields:
        _take(request, name, value)
    if read_only:
        request.settings["readonly"] = "2"  # as ClickHouse does for GET
    return request


def _take(request: Request, name: str, value: str) -> None:
    match name:
        case "query":
            request.query += value.encode("utf-8", "surrogateescape")
        case "user" | "password" | "database" | "session_id":
            setattr(request, name, value)
        case "session_timeout":
            request.session_timeout_s = _seconds(value)
        case "default_format":
            request.output = value
        case "buffer_size":
            request.spooled = True
        case "enable_http_compression":
            request.compressed = value == "1"
        case _ if name.startswith("param_"):
            request.params[name.removeprefix("param_")] = value
        case _ if name in _UNSUPPORTED and value not in ("", "0"):
            raise fault(48, "NOT_IMPLEMENTED", f"The parameter {name} is not supported by this door")
        case _ if name not in _IGNORED | _UNSUPPORTED:
            request.settings[name] = value


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= SESSION_TIMEOUT_S_MAX:
        text = f"session_timeout must be between 0 and {SESSION_TIMEOUT_S_MAX} seconds"
        raise fault(374, "INVALID_SESSION_TIMEOUT", text)
    return seconds


def _credentials(headers: Message) -> tuple[str, str]:
    if "X-ClickHouse-User" in headers:
        return headers["X-ClickHouse-User"], headers.get("X-ClickHouse-Key", "")
    kind, _, token = headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            user, _, password = b64decode(token, validate=True).decode().partition(":")
        except ValueError as error:
            raise fault(516, "AUTHENTICATION_FAILED", "The Authorization header cannot be read") from error
        return user, password
    return DEFAULT_USER, ""


def _form(headers: Message, body: bytes) -> list[tuple[str, str]]:
    """The text fields of a form; clickhouse-connect sends long parameters this way."""
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    fields = []
    for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
        described = part["Content-Disposition"].params if "Content-Disposition" in part else {}
        if "filename" in described:
            raise fault(48, "NOT_IMPLEMENTED", "External tables are not supported by this door")
        payload = part.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
        fields.append((str(described.get("name", "")), content.decode("utf-8", "surrogateescape")))
    return fields


def empty_block(columns: Sequence[tuple[str, str]]) -> bytes:
    """A block of ClickHouse's Native format with these columns (name, type) and no row."""
    parts = [_varint(len(columns)), _varint(0)]
    for text in chain.from_iterable(columns):
        content = text.encode()
        parts += (_varint(len(content)), content)
    return b"".join(parts)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:  # noqa: PLR2004 - seven bits a byte
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def content_type(output: str) -> str:
    """The media type of an answer in this format."""
    return _CONTENT_TYPES.get(output, "application/octet-stream")


def summary(answer: Answer) -> str:
    """ClickHouse's account of a statement, as the header X-ClickHouse-Summary carries it."""
    counts = {
        "read_rows": answer.read_rows,
        "read_bytes": answer.read_bytes,
        "result_rows": answer.result_rows,
        "written_rows": answer.written_rows,
        "written_bytes": answer.written_bytes,
        "elapsed_ns": int(answer.elapsed_s * 1e9),
    }
    return json.dumps({name: str(value) for name, value in counts.items()})
