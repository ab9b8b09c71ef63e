"""What librdkafka's properties about security mean for connections that librdkafka does not make.

I/O: files of certificates and keys, when a client is made.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiokafka.errors import KafkaConnectionError, KafkaError

from schemas.codes import ErrorCode
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# What can be said to aiokafka's connections of librdkafka's properties about security.
_PROTOCOLS = frozenset({"plaintext", "ssl", "sasl_plaintext", "sasl_ssl"})
_MECHANISMS = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
_TLS = frozenset({"ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password"})
_NAMES = frozenset({"sasl.mechanism", "sasl.mechanisms"})
_KNOWN = frozenset({"security.protocol", "sasl.username", "sasl.password", *_TLS, *_NAMES})


def secures(name: str) -> bool:
    """Whether this librdkafka property is about security."""
    return name == "security.protocol" or name.startswith(("ssl.", "sasl.", "enable.ssl", "enable.sasl"))


def can_secure(config: Mapping[str, Any]) -> bool:
    """Whether connections can be made as these librdkafka properties want them secured."""
    named = {name for name in config if secures(name)}
    protocol = str(config.get("security.protocol", "plaintext")).lower()
    return (
        named <= _KNOWN
        and protocol in _PROTOCOLS
        and (
            not protocol.startswith("sasl") or bool(named & _NAMES)
        )  # librdkafka's mechanism is Kerberos, unless named
        and all(str(config[name]).upper() in _MECHANISMS for name in named & _NAMES)
    )


def are_known(config: Mapping[str, Any], known: Collection[str]) -> bool:
    """Whether a client that knows these librdkafka properties, and connects as aiokafka does, can do all of it."""
    return all(name in known or secures(name) for name in config) and can_secure(config)


def security_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What aiokafka's connections are told of these librdkafka properties, for which `can_secure`.

    Raises ConfigurationError where a file of certificates or keys cannot be used.
    """
    protocol = str(config.get("security.protocol", "plaintext")).upper()
    found: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        found["ssl_context"] = context = _trusting(config.get("ssl.ca.location"))
        _identify(context, config)
    if protocol.startswith("SASL"):
        mechanism = next((config[name] for name in sorted(_NAMES & set(config))), "PLAIN")
        found |= {
            "sasl_mechanism": str(mechanism).upper(),
            "sasl_plain_username": str(config.get("sasl.username", "")),
            "sasl_plain_password": str(config.get("sasl.password", "")),
        }
    return found


def _trusting(place: str | None) -> ssl.SSLContext:
    """Those whose certificates stand in this file or directory; without one, those whom the system trusts."""
    if place is not None and Path(place).is_dir():
        return ssl.create_default_context(capath=place)
    try:
        return ssl.create_default_context(cafile=place)
    except OSError as raised:
        raise _unusable("ssl.ca.location", place, raised) from raised


def _identify(context: ssl.SSLContext, config: Mapping[str, Any]) -> None:
    """With the certificate of a client, where one is named."""
    certificate, key = config.get("ssl.certificate.location"), config.get("ssl.key.location")
    if not certificate:
        return
    # Not None: for a key that has a password, OpenSSL would ask whoever sits at the terminal, and wait.
    password = str(config.get("ssl.key.password") or "")
    for name, place in (("ssl.certificate.location", certificate), ("ssl.key.location", key)):
        if place and not Path(place).is_file():
            raise _unusable(name, place, FileNotFoundError("there is no such file"))
    try:
        context.load_cert_chain(certificate, key, password)
    except OSError as raised:
        raise _unusable("ssl.key.location", key or certificate, raised) from raised


def _unusable(name: str, place: object, why: OSError) -> ConfigurationError:
    said = (why.strerror or str(why)) if not isinstance(why, ssl.SSLError) else (why.reason or str(why))
    text = (
        f"Connections to Kafka cannot be secured: {name} is {place}, and that cannot be used: {said}. Name a PEM file "
        "that this user can read (for a key with a password: ssl.key.password, too), in the file that "
        "POINTSMAN_KAFKA_CONFIG names, or in `kafka` of the topology."
    )
    return ConfigurationError(text, code=ErrorCode.KAFKA_CONFIG)


def refusal_of(error: BaseException, security: Mapping[str, Any]) -> str:
    """Why a broker could not be connected to, and what to do about it; `security` as `security_of` gives it."""
    protocol: str = security["security_protocol"]
    match error:
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is not trusted: {error.verify_message}. ssl.ca.location has to name the CA that "
                "signed it, and the host has to be one of those that the certificate names"
            )
        case ssl.SSLError():
            why = (error.reason or str(error)).replace("_", " ").lower()
            return (
                f"TLS could not be agreed on: {why}. See whether security.protocol ({protocol}) is what this listener "
                f"speaks, and whether it wants a client's certificate (ssl.certificate.location)"
            )
        case TimeoutError():
            return "no answer in time. See whether it runs, and whether this listener speaks " + protocol
        case KafkaConnectionError() | EOFError() | ConnectionResetError() | BrokenPipeError():
            return (
                "it closed the connection before the first answer. See whether security.protocol "
                f"({protocol}) is what this listener speaks, and whether it wants a client's certificate "
                "(ssl.certificate.location), signed by a CA that it trusts"
            )
        case KafkaError() if protocol.startswith("SASL"):
            return (
                f"it does not let {security['sasl_plain_username'] or 'a user without a name'} in: {error}. See "
                f"sasl.username, sasl.password and sasl.mechanism ({security['sasl_mechanism']})"
            )
    return str(error) or repr(error)
