"""What tasks get that state nothing, by their tenant: whole columns at a time.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from schemas.topology import Topology

UNSTATED = "UNKNOWN"  # of the enums ValueTier and DataClass


class TenantDefaults:
    """The defaults of a topology, compiled; `tenants` is always the column of that name, one row a task."""

    def __init__(self, topology: Topology) -> None:
        own = [topology.defaults_of(tenant) for tenant in topology.tenants]
        everyone = topology.defaults
        # Tenants without defaults of their own come last.
        self._names = pa.array(list(topology.tenants), pa.string())
        self._value_tiers = [*(each.value_tier for each in own), everyone.value_tier]
        self._data_classes = [*(each.data_class for each in own), everyone.data_class]
        self._deadlines_ms = [*(each.deadline_ms for each in own), everyone.deadline_ms]

    def value_tiers(self, tenants: pa.Array, stated: pa.Array) -> list[str]:
        """The tiers of tasks, from those that they state."""
        return self._filled(tenants, stated, self._value_tiers)

    def data_classes(self, tenants: pa.Array, stated: pa.Array) -> list[str]:
        """The data classes of tasks, from those that they state."""
        return self._filled(tenants, stated, self._data_classes)

    def deadlines_ms(self, tenants: pa.Array) -> Sequence[int]:
        """Time that each task may take where neither it nor its route says so."""
        if not self._names:
            return self._deadlines_ms * len(tenants)
        return self._looked_up(tenants, pa.array(self._deadlines_ms, pa.int64())).to_pylist()  # type: ignore[no-any-return]

    def _filled(self, tenants: pa.Array, stated: pa.Array, defaults: list[Any]) -> list[str]:
        if not self._names:
            default = defaults[-1]
            return [default if each == UNSTATED else each for each in stated.to_pylist()]
        usual = self._looked_up(tenants, pa.array(defaults, pa.string()))
        return pc.if_else(pc.equal(stated, UNSTATED), usual, stated).to_pylist()  # type: ignore[no-any-return]

    def _looked_up(self, tenants: pa.Array, defaults: pa.Array) -> pa.Array:
        codes = pc.fill_null(pc.index_in(tenants, value_set=self._names), len(self._names))
        return defaults.take(codes)
