"""What `--help` says beyond the flags: commands by what they are for, and an example or two of each.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from typer.core import TyperGroup

# What is not named here comes last, under "Other".
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "On this machine": ("demo", "dev", "doctor"),
    "Tasks and their results": ("submit", "results", "task", "history", "replay", "dlq"),
    "How much it can take": ("load",),
    "What a deployment consists of": ("validate", "agents", "init", "topics", "schemas", "explain"),
    "What agents know": ("context", "facts", "instruct"),
    "Whether it keeps its promises": ("chaos", "eval"),
    "One process of it, for production": ("worker", "host", "store", "registry"),
}
OTHER = "Other"

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "demo": ("pointsman demo", "pointsman demo --broker localhost:9092 --keep /tmp/demo"),
    "dev": ("pointsman dev --reload", "pointsman dev --broker localhost:9092 --data /var/tmp/pointsman"),
    "doctor": ("pointsman doctor", "pointsman doctor --broker kafka:9092 -o json"),
    "submit": (
        'pointsman submit "find the Q3 revenue for EMEA" --wait',
        "pointsman submit -f tasks.jsonl --tenant acme --wait -o jsonl",
        "generate-tasks | pointsman submit -f -",
    ),
    "results": ("pointsman results --limit 5", "pointsman results --follow -o jsonl | jq .answer"),
    "task show": ("pointsman task show 4f1c0a52-8d0e-4c7b-9a43-7d0f3b8c2f11 --tenant acme",),
    "history": (
        "pointsman history",
        "pointsman history cascades --since 1h --agent sql_agent",
        "pointsman history results --since 7d --out results.parquet",
        'pointsman history "select status, count() from results group by status" -o json',
    ),
    "replay": (
        "pointsman replay --topology cheaper.yaml --since 7d",
        "pointsman replay --topology cheaper.yaml -o json | jq .by_agent",
    ),
    "dlq list": ("pointsman dlq list --since 2h", "pointsman dlq list --summary -o json"),
    "dlq show": ("pointsman dlq show 3:1842",),
    "dlq redrive": (
        "pointsman dlq redrive --reason UNKNOWN_SCHEMA --since 6h --dry-run",
        "pointsman dlq redrive 3:1842 --deadline-in 10m",
    ),
    "validate": ("pointsman validate", "pointsman validate staging.yaml -o json"),
    "init agent": (
        "pointsman init agent opening_hours",
        "pointsman init agent opening_hours --kind command --add",
    ),
    "agents test": (
        'pointsman agents test revenue_agent "find the Q3 revenue for EMEA"',
        "pointsman agents test metrics_agent -o json",
    ),
    "context show": ("pointsman context show revenue_agent c-17", "pointsman context show revenue_agent c-17 -o json"),
    "context verify": ("pointsman context verify revenue_agent c-17",),
    "context revoke": ('pointsman context revoke revenue_agent c-17 t-4711 --why "taken from a forged invoice"',),
    "facts list": ("pointsman facts list revenue_agent c-17 --tenant acme",),
    "facts pin": ('pointsman facts pin revenue_agent c-17 "The fiscal year begins in April."',),
    "facts unpin": ('pointsman facts unpin revenue_agent c-17 "The fiscal year begins in April."',),
    "instruct": ('pointsman instruct revenue_agent "State figures in euros."',),
    "context instructions": ("pointsman context instructions revenue_agent",),
    "context withdraw": ("pointsman context withdraw 5f0c1d2e",),
    "agents list": ("pointsman agents list", "pointsman agents list -o json | jq '.[] | select(.state != \"LIVE\")'"),
    "agents show": ("pointsman agents show revenue_agent",),
    "agents pause": ('pointsman agents pause revenue_agent --why "wrong currency since noon"',),
    "agents resume": ("pointsman agents resume revenue_agent",),
    "agents retire": ('pointsman agents retire revenue_agent --why "replaced by ledger_agent" --yes',),
    "explain": ("pointsman explain T203", "pointsman explain NO_QUORUM", "pointsman explain"),
    "topics plan": ("pointsman topics plan", "pointsman topics plan --form acl > acls.sh"),
    "topics apply": ("pointsman topics apply", "pointsman topics apply --yes -o jsonl"),
    "topics pause": ("pointsman topics pause tasks.submitted.v1",),
    "topics resume": ("pointsman topics resume tasks.submitted.v1",),
    "topics list": ("pointsman topics list -o json | jq 'map(.records) | add'",),
    "topics describe": ("pointsman topics describe tasks.results.v1",),
    "schemas list": ("pointsman schemas list",),
    "schemas show": ("pointsman schemas show topology", "pointsman schemas show TaskSubmitted"),
    "chaos run": (
        "pointsman chaos run smoke",
        "pointsman chaos run night --seeds 5 --json chaos.json",
        "pointsman chaos run my-plan.yaml --seed 7 --rate 500 --keep /var/tmp/chaos",
    ),
    "chaos plans": ("pointsman chaos plans",),
    "eval memory": ("pointsman eval memory --data ../shared/data --json memory.json",),
    "worker": ("pointsman worker --broker kafka:9092 --metrics-port 9100",),
    "host": ("pointsman host --broker kafka:9092 --topology topology.yaml",),
    "store": (
        "pointsman store --broker kafka:9092 --clickhouse http://clickhouse:8123",
        "pointsman store --data /var/lib/pointsman/clickhouse",
    ),
    "registry": ("pointsman registry --listen 0.0.0.0:8081",),
    "schemas push": ("pointsman schemas push --dry-run",),
    "load run": (
        "pointsman load run smoke",
        "pointsman load run lifecycle-200k --json a.json --html a.html",
        "pointsman load run latency-20k --rate 500 --duration 20 --delivery exactly_once",
    ),
    "load report": ("pointsman load report a.json --html a.html",),
    "load compare": ("pointsman load compare a.json b.json",),
    "load scenarios": ("pointsman load scenarios",),
    "completion": ("pointsman completion bash > ~/.local/share/bash-completion/completions/pointsman",),
}


class Sections(TyperGroup):
    """The root of the commands, which its help shows section by section, none of them cut."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  Click's signature
        shown = {name: command for name, command in self.commands.items() if not command.hidden}
        named = {name for names in SECTIONS.values() for name in names}
        rest = tuple(name for name in shown if name not in named)
        widest = max(map(len, shown))
        for title, names in {**SECTIONS, OTHER: rest}.items():
            rows = [(name.ljust(widest), first_line(shown[name])) for name in names if name in shown]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def first_line(command: Any) -> str:
    """What a command does, in one sentence."""
    return str(command.help or "").strip().partition("\n")[0]


def with_examples(root: Any) -> Any:
    """The same commands, each with its examples below its flags, and named in its group's help by a whole sentence."""
    for path, command in leaves(root):
        command.short_help = first_line(command)
        if lines := EXAMPLES.get(path):
            # Click wraps paragraphs but for those that begin like this.
            command.epilog = "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
    return root


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    children: Mapping[str, Any] = getattr(command, "commands", {})
    for name, child in children.items():
        yield from leaves(child, f"{path} {name}".strip())
    if not children:
        yield path, command
