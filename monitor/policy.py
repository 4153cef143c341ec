"""How many windows fire and clear, from the configuration."""

from __future__ import annotations

from datetime import timedelta

from monitor.alerting.fold import Policy
from monitor.config.model import MonitorConfig


def policy_of(monitor: MonitorConfig, length: timedelta) -> Policy:
    """1 of 1 for windows of 6 h and more, 2 of 3 for shorter ones, unless the owner says otherwise."""
    fire = (1, 1) if length >= timedelta(hours=6) else (2, 3)
    if monitor.alerts.fire != "auto":
        need, _, of = monitor.alerts.fire.partition(" of ")
        fire = (int(need), int(of))
    return Policy(fire, monitor.alerts.clear)
