"""Services of the user's own, asked whether they are there before anything is started on them.

I/O: HTTP.
"""

from __future__ import annotations

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError
from schemas.settings import Settings

ANSWER_S = 3
AUTHENTICATION_FAILED = 516
UNKNOWN_USER = 192
ACCESS_DENIED = 497


def check_clickhouse(settings: Settings) -> str:
    """The version of the server that answers there, within about three seconds.

    Raises UnreachableError where none does, ConfigurationError where it does not let this user in.
    """
    from streams.history.queries import QueryError, connect  # noqa: PLC0415  the client, only when used

    url, user = settings.clickhouse.rstrip("/"), settings.clickhouse_user
    try:
        client = connect(url, user, settings.clickhouse_password.get_secret_value(), send_receive_timeout=ANSWER_S)
    except QueryError as error:
        if error.code not in (AUTHENTICATION_FAILED, UNKNOWN_USER, ACCESS_DENIED):
            raise
        password = "a password" if settings.clickhouse_password.get_secret_value() else "no password"
        raise ConfigurationError(
            f"ClickHouse at {url} does not let user {user} in ({password} was given). Set "
            "POINTSMAN_CLICKHOUSE_USER and POINTSMAN_CLICKHOUSE_PASSWORD.",
            code=ErrorCode.CLICKHOUSE_LOGIN,
        ) from error
    try:
        return str(client.server_version)
    finally:
        client.close()
