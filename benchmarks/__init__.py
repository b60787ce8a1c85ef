"""Which questions do the benchmarks answer? Name -> module with `run(quick) -> Report`."""

from __future__ import annotations

__all__ = ["BENCHMARKS"]

# A new benchmark is one module and one line here.
BENCHMARKS: dict[str, str] = {
    "polars": "benchmarks.polars",
    "daft": "benchmarks.daft",
    "plan": "benchmarks.plan",
    "commit": "benchmarks.commit",
    "deletes": "benchmarks.deletes",
    "mor": "benchmarks.mor",
    "ray": "benchmarks.ray",
    "client": "benchmarks.client",
}
