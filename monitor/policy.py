"""How many windows fire and clear, from the configuration."""

from __future__ import annotations

from datetime import timedelta

from monitor.alerting.fold import Policy
from monitor.config.model import MonitorConfig


def policy_of(monitor: MonitorConfig, length: timedelta) -> Policy:
    """1 of 1 for windows of 6 h and more, 2 of 3 for shorter ones, unless the owner says otherwise."""
    alerts = monitor.alerts
    fire, chosen = (1, 1) if length >= timedelta(hours=6) else (2, 3), alerts.fire != "auto"
    if chosen:
        need, _, of = alerts.fire.partition(" of ")
        fire = (int(need), int(of))
    contract_clear = alerts.clear if "clear" in alerts.model_fields_set else 1
    return Policy(fire, alerts.clear, contract_clear, chosen)
