"""The planner: embedded in a process, or served over HTTP."""

from __future__ import annotations

from planner_client.server.planner import EmbeddedPlanner

__all__ = ["EmbeddedPlanner"]
