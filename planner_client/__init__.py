"""Client of DeltaCAT planners, and the planner that ships with it."""

from __future__ import annotations

from planner_client.client import Client, connect

__all__ = ["Client", "connect"]
