"""What tasks get that state nothing: for everyone, and for single tenants. I/O: none."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.topology_agent import Section, Whole


class Defaults(Section):
    """What a task gets where neither it nor its route says otherwise."""

    value_tier: Literal["LOW", "MEDIUM", "HIGH"] = Field("MEDIUM", description="Value tier of a task that states none.")
    data_class: Literal["PUBLIC", "INTERNAL", "PERSONAL", "SENSITIVE"] = Field(
        "INTERNAL", description="Data class of a task that states none."
    )
    deadline_ms: Whole = Field(30_000, ge=1, description="Time a task may take from the moment it is read.")


class Tenant(Section):
    """Defaults of one tenant; its name is its key in `tenants`. What is null here is as for everyone."""

    value_tier: Literal["LOW", "MEDIUM", "HIGH"] | None = Field(
        None, description="Value tier of its tasks that state none; null: as in defaults."
    )
    data_class: Literal["PUBLIC", "INTERNAL", "PERSONAL", "SENSITIVE"] | None = Field(
        None, description="Data class of its tasks that state none; null: as in defaults."
    )
    deadline_ms: Whole | None = Field(
        None, ge=1, description="Time its tasks may take where neither they nor their route say; null: as in defaults."
    )
