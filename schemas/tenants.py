"""What tasks get that state nothing, by their tenant: whole columns at a time.

I/O: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy.typing as npt

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

    def value_tiers(self, tenants: pa.Array, stated: pa.Array) -> pa.Array:
        """The tiers of tasks, from those that they state."""
        return self._filled(tenants, stated, self._value_tiers)

    def data_classes(self, tenants: pa.Array, stated: pa.Array) -> list[str]:
        """The data classes of tasks, from those that they state."""
        return self._filled(tenants, stated, self._data_classes).to_pylist()  # type: ignore[no-any-return]

    def deadlines_ms(self, tenants: pa.Array) -> npt.NDArray[np.int64]:
        """Time that each task may take where neither it nor its route says so."""
        if not self._names:
            return np.full(len(tenants), self._deadlines_ms[-1], np.int64)
        return self._looked_up(tenants, pa.array(self._deadlines_ms, pa.int64())).to_numpy()  # type: ignore[no-any-return]

    def _filled(self, tenants: pa.Array, stated: pa.Array, defaults: Sequence[str]) -> pa.Array:
        named = bool(self._names)
        usual = self._looked_up(tenants, pa.array(defaults, pa.string())) if named else pa.scalar(defaults[-1])
        return pc.if_else(pc.equal(stated, UNSTATED), usual, stated)

    def _looked_up(self, tenants: pa.Array, defaults: pa.Array) -> pa.Array:
        codes = pc.fill_null(pc.index_in(tenants, value_set=self._names), len(self._names))
        return defaults.take(codes)
