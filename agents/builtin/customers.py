"""Three agents over a small file of customers: the card, the preferences, and what is held and why.

They keep nothing: a preference that is set is set within the answer. I/O: reads data/customers.json once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from agents.builtin.faults import with_faults
from agents.contract import AgentRefused, AgentWrongInput, Answer, Context, Task

DATA = Path(__file__).parent / "data"
SOURCE = "customers.json"
SURE, FAIR, UNKNOWN = 0.95, 0.8, 0.2

Customer = Mapping[str, Any]

FIELDS = {
    "account_manager": ("account manager", "manager", "who looks after"),
    "contact": ("contact person", "contact of", "contact at", "contact for", "who is the contact"),
    "email": ("email", "e-mail", "mail address"),
    "phone": ("phone", "telephone"),
    "country": ("country", "where is"),
    "segment": ("segment",),
    "plan": ("plan", "subscription", "subscribed"),
    "since": ("since", "how long"),
}
PREFERENCES = {
    "newsletter": ("newsletter", "opted"),
    "language": ("language",),
    "contact_channel": ("channel", "prefer to be contacted", "preferred contact"),
}
VALUES = {
    "newsletter": ("on", "off"),
    "language": ("da", "de", "en", "es", "ko", "no", "pt", "sv"),
    "contact_channel": ("email", "phone", "chat"),
}
CHANGES = "set|change|switch|turn"
ERASURE = "erasure|erase|delete|forget"
HOLDING = "data do we hold|personal data|gdpr"
PERSONAL = ("contact", "email", "phone")
# What is held, why, and for how long.
HELD = (
    ("name, country and segment", "the contract", "ten years after its end"),
    ("contact person, email and phone", "the contract", "until the contact changes"),
    ("preferences", "consent", "until it is withdrawn"),
)


@cache
def customers() -> tuple[Customer, ...]:
    return tuple(json.loads((DATA / SOURCE).read_text("utf-8")))


def find(text: str) -> list[Customer]:
    """Whom a text is about: by id, else by whole name, else by the first word of the name."""
    ids = set(re.findall(r"\bC-\d+\b", text.upper()))
    if ids:
        return [each for each in customers() if each["id"] in ids]
    lower = text.lower()
    whole = [each for each in customers() if each["name"].lower() in lower]
    return whole or [each for each in customers() if re.search(rf"\b{each['name'].split()[0].lower()}\b", lower)]


def _one(task: Task) -> Customer | Answer:
    """The customer, or the doubt about who that is. A conversation goes on about the customer that it was about."""
    found = find(task.text)
    if len(found) == 1:
        return found[0]
    if not found:
        return Answer("I do not know this customer.", UNKNOWN, vote_key="unknown customer", citations=(SOURCE,))
    names = ", ".join(f"{each['name']} ({each['id']})" for each in found)
    return Answer(f"Which one is meant: {names}?", 0.4, vote_key="which customer", citations=(SOURCE,))


def _in_conversation(task: Task, context: Context) -> Task:
    """With the customer of an earlier question, where this one names none."""
    if find(task.text):
        return task
    for interaction in reversed(context.interactions):
        if len(earlier := find(interaction.asked)) == 1:
            return Task(**{**_fields(task), "text": f"{task.text} {earlier[0]['id']}"})
    return task


def _fields(task: Task) -> dict[str, Any]:
    return {name: getattr(task, name) for name in Task.__dataclass_fields__}


def _crm(task: Task, context: Context) -> Answer:
    """A customer's card, or one field of it."""
    if re.search(rf"\b({CHANGES}|{ERASURE}|{HOLDING})\b", task.text, re.IGNORECASE):
        raise AgentRefused("the crm agent changes nothing, and leaves data protection to others")
    task = _in_conversation(task, context)
    customer = _one(task)
    if isinstance(customer, Answer):
        return customer
    field = _asked(task.text, FIELDS)
    if field:
        return _field(customer, field, customer[field], SURE)
    if preference := _asked(task.text, PREFERENCES):
        return _field(customer, preference, customer["preferences"][preference], FAIR)
    return Answer(
        f"{customer['name']} ({customer['id']}), {customer['segment']} in {customer['country']}, customer since "
        f"{customer['since']} on the plan {customer['plan']}. Account manager: {customer['account_manager']}. "
        f"Contact: {customer['contact']}.",
        0.9,
        vote_key=customer["id"],
        payload=dict(customer),
        citations=(_cite(customer),),
    )


def _profile(task: Task, context: Context) -> Answer:
    """Reads and sets a customer's preferences; the same under the same key, however often it is asked."""
    task = _in_conversation(task, context)
    preference = _asked(task.text, PREFERENCES)
    if not preference and not re.search(r"\b(profile|preferences?)\b", task.text, re.IGNORECASE):
        raise AgentRefused("the profile agent knows preferences alone")
    customer = _one(task)
    if isinstance(customer, Answer):
        return customer
    if not preference:
        all_of_them = ", ".join(f"{name}: {value}" for name, value in customer["preferences"].items())
        return Answer(
            f"Preferences of {customer['name']}: {all_of_them}.",
            0.9,
            vote_key=customer["id"],
            payload=customer["preferences"],
            citations=(_cite(customer),),
        )
    value = _new_value(task.text, preference)
    if value is None:
        return _field(customer, preference, customer["preferences"][preference], SURE)
    return Answer(
        f"{preference} of {customer['name']} is now {value}.",
        SURE,
        vote_key=f"{customer['id']} {preference}:={value}",
        payload={"customer": customer["id"], preference: value, "key": task.idempotency_key},
        citations=(_cite(customer),),
        facts=(f"{customer['name']} wants {preference} {value}",),
    )


def _privacy(task: Task, context: Context) -> Answer:
    """What is held on a customer and why; shows personal data in a redacted form alone."""
    task = _in_conversation(task, context)
    if re.search(rf"\b({ERASURE})\b", task.text, re.IGNORECASE):
        raise AgentRefused("an erasure is decided by a person")
    if re.search(rf"\b({CHANGES})\b", task.text, re.IGNORECASE):
        raise AgentRefused("the privacy agent changes nothing")
    customer = _one(task)
    if isinstance(customer, Answer):
        return customer
    field = _asked(task.text, FIELDS)
    if field:
        return _field(customer, field, customer[field], FAIR, redacted=field in PERSONAL)
    if preference := _asked(task.text, PREFERENCES):
        return _field(customer, preference, customer["preferences"][preference], FAIR)
    held = "; ".join(f"{what}: for {why}, {how_long}" for what, why, how_long in HELD)
    return Answer(
        f"Held on {customer['name']}: {held}. Contact: {redact(customer['contact'])}, {redact(customer['email'])}.",
        SURE,
        vote_key=customer["id"],
        payload=[{"what": what, "why": why, "how_long": how_long} for what, why, how_long in HELD],
        citations=(_cite(customer),),
    )


crm = with_faults(_crm)
profile = with_faults(_profile)
privacy = with_faults(_privacy)


def redact(text: str) -> str:
    """The first letter of each word, and of an address the domain's last part, as dots stand for the rest."""
    return re.sub(r"\w+(?!\w*$)", lambda found: found.group()[0] + "…", text)


def _asked(text: str, fields: Mapping[str, tuple[str, ...]]) -> str:
    lower = text.lower()
    return next((name for name, words in fields.items() if any(word in lower for word in words)), "")


def _new_value(text: str, preference: str) -> str | None:
    """The value to set; None where the text only asks. Raises AgentWrongInput for one that there is not."""
    found = re.search(rf"\b(?:{CHANGES})\b.*\b(?:to|=)\s*([\w-]+)", text, re.IGNORECASE)
    found = found or re.search(r"\b(?:switch|turn)\b.*\b(on|off)\b", text, re.IGNORECASE)
    if found is None:
        return None
    value = found.group(1).lower()
    if value not in VALUES[preference]:
        raise AgentWrongInput(f"{preference} can be {', '.join(VALUES[preference])}")
    return value


def _field(customer: Customer, field: str, value: str, confidence: float, *, redacted: bool = False) -> Answer:
    shown = redact(value) if redacted else value
    return Answer(
        f"{field.replace('_', ' ').capitalize()} of {customer['name']}: {shown}.",
        confidence,
        # Of the value itself, not of what is shown: a redacted answer agrees with the full one.
        vote_key=f"{customer['id']} {field}={value}",
        payload={"customer": customer["id"], field: shown},
        citations=(_cite(customer),),
    )


def _cite(customer: Customer) -> str:
    return f"{SOURCE}#{customer['id']}"
