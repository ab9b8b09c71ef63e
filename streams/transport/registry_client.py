"""A client of a Confluent-compatible schema registry: the few requests that are asked of the producers' own one.

Confluent's client would bring five packages with it for these. The address is shown as it is set, which is without
credentials: those come apart from it, and are shown nowhere. A CA of one's own is named by SSL_CERT_FILE, as for all of
OpenSSL. I/O: HTTP.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import urllib3

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError, UnreachableError
from schemas.settings import Settings

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
CONNECT_S, READ_S = 2.0, 5.0
ANSWER_BYTES_MAX = 4 * 1024 * 1024
ABSENT = frozenset({40401, 40402, 40403})  # subject, version, schema
CONFLICT = 409


class RegistryRefusedError(ConfigurationError):
    """The registry answers, but not what was asked for: wrong credentials, rights or address."""

    error_code = ErrorCode.REGISTRY_REFUSED


class IncompatibleSchemaError(ConfigurationError):
    """The registry does not take this schema under this subject."""

    error_code = ErrorCode.REGISTRY_CONFLICT


class RegistryClient:
    """Used by one thread at a time. Every method raises UnreachableError where the registry does not answer, or says
    that it cannot now, and RegistryRefusedError where it answers that it will not."""

    def __init__(self, url: str, user: str = "", password: str = "") -> None:
        self.url = url.rstrip("/")
        headers = {"Accept": f"{CONTENT_TYPE}, application/json", "Content-Type": CONTENT_TYPE}
        if user or password:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        timeout = urllib3.Timeout(connect=CONNECT_S, read=READ_S)
        self._pool = urllib3.PoolManager(1, headers, maxsize=1, timeout=timeout, retries=False)

    @classmethod
    def of(cls, settings: Settings) -> RegistryClient:
        """That which the settings name."""
        password = settings.schema_registry_password.get_secret_value()
        return cls(settings.schema_registry or "", settings.schema_registry_user or "", password)

    def schema(self, schema_id: int) -> str | None:
        """The schema of this id, whole; None where the registry has no such id."""
        path = f"/schemas/ids/{schema_id}"
        found = self._ask("GET", path)
        if isinstance(found, dict) and found.get("references"):
            found = self._ask("GET", f"{path}?format=resolved")
        return None if found is None else self._text(found, path)

    def versions(self, subject: str) -> list[int]:
        """The subject's versions, the oldest first; none where there is no such subject."""
        path = f"/subjects/{quote(subject, safe='')}/versions"
        found = self._ask("GET", path)
        if found is not None and not (isinstance(found, list) and all(isinstance(each, int) for each in found)):
            raise self._refused(path, "no list of versions")
        return [] if found is None else found

    def version(self, subject: str, version: int) -> tuple[int, str] | None:
        """Id and schema of one version; None where it is gone."""
        path = f"/subjects/{quote(subject, safe='')}/versions/{version}"
        found = self._ask("GET", path)
        return None if found is None else (self._id(found, path), self._text(found, path))

    def register(self, subject: str, text: str) -> int:
        """Id of this schema under this subject from now on. Raises IncompatibleSchemaError."""
        path = f"/subjects/{quote(subject, safe='')}/versions"
        return self._id(self._ask("POST", path, {"schema": text, "schemaType": "AVRO"}), path)

    def close(self) -> None:
        self._pool.clear()

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's document; None where it says that there is no such thing."""
        content = None if body is None else json.dumps(body).encode()
        try:
            answer = self._pool.request(method, self.url + path, body=content, redirect=False, preload_content=False)
            data = answer.read(ANSWER_BYTES_MAX + 1)
            answer.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(_why(error)) from error
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        return self._read(answer.status, document, path)

    def _read(self, status: int, document: Any, path: str) -> Any:
        said = document if isinstance(document, dict) else {}
        code, message = said.get("error_code"), str(said.get("message", ""))[:300]
        if status == 200 and document is not None:  # noqa: PLR2004  HTTP's
            return document
        if status == 404 and code in ABSENT:  # noqa: PLR2004  a 404 of some other server's says nothing of schemas
            return None
        if status == CONFLICT:
            raise IncompatibleSchemaError(f"The schema registry at {self.url} refuses the schema: {message}")
        if status >= 500 or status in (408, 429):  # noqa: PLR2004  it cannot now
            raise self._unreachable(f"HTTP {status} {message}".strip())
        raise self._refused(path, f"HTTP {status} {message}".strip())

    def _text(self, found: Any, path: str) -> str:
        text = found.get("schema") if isinstance(found, dict) else None
        if not isinstance(text, str):
            raise self._refused(path, "no schema")
        # Only what is not Avro says its type; as a text that is no JSON it will be no schema of ours.
        return text if found.get("schemaType", "AVRO") == "AVRO" else f"a schema of type {found['schemaType']}"

    def _id(self, found: Any, path: str) -> int:
        number = found.get("id") if isinstance(found, dict) else None
        if not isinstance(number, int):
            raise self._refused(path, "no id")
        return number

    def _unreachable(self, why: str) -> UnreachableError:
        hint = "Start it, or correct POINTSMAN_SCHEMA_REGISTRY."
        return UnreachableError("the schema registry", self.url, why, hint, code=ErrorCode.NO_REGISTRY)

    def _refused(self, path: str, said: str) -> RegistryRefusedError:
        return RegistryRefusedError(
            f"The schema registry at {self.url} answers {path} with: {said}. Check POINTSMAN_SCHEMA_REGISTRY, and "
            "POINTSMAN_SCHEMA_REGISTRY_USER and its password."
        )


def _why(error: urllib3.exceptions.HTTPError) -> str:
    """Without the addresses of objects that urllib3 puts into its texts."""
    match error:
        case urllib3.exceptions.ConnectTimeoutError() | urllib3.exceptions.ReadTimeoutError():
            return "it does not answer in time"
        case urllib3.exceptions.NewConnectionError() | urllib3.exceptions.NameResolutionError():
            return str(error.__cause__ or error).rpartition(": ")[2]
        case _:
            return f"{type(error).__name__}: {error}"[:200]
