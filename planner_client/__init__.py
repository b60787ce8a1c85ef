"""Client of DeltaCAT planners, and the planner that ships with it."""

from __future__ import annotations

from io_core.model import DataFile, ScanTask, WriteEntry, WriteSession
from io_core.plan import PartitionSummary, ReadPlan
from planner_client.client import Client, connect
from planner_client.transaction import Transaction

__all__ = [
    "Client",
    "DataFile",
    "PartitionSummary",
    "ReadPlan",
    "ScanTask",
    "Transaction",
    "WriteEntry",
    "WriteSession",
    "connect",
]
