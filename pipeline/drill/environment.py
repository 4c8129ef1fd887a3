"""What the processes of a drill are told: nothing of the settings in force but what is named here. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.config import Settings
from pipeline.drill.plan import Plan


def environment(
    plan: Plan, base: Mapping[str, str], *, database: str, folder: Path, port: int, mock: str, hook: str, secret: str
) -> dict[str, str]:
    """The variables of every process: `base` without any setting of ours, then those of the drill."""
    ours = {name.upper() for name in Settings.model_fields}
    settings: dict[str, object] = {
        "database_url": database,
        "data_dir": folder / "data",
        "host": "127.0.0.1",
        "port": port,
        "public_url": f"http://127.0.0.1:{port}",
        "secret_key": f"drill-{secret}",
        "webhook_secret": secret,
        "webhook_url": hook,
        "webhook_schedule": "0,0.3,0.5,1,1,2,2,4,4,8,8,8",
        "webhook_timeout": 5,
        "webhook_pause": 0.1,
        "allowed_networks": "127.0.0.0/8,::1/128",
        "key_rate_per_minute": 0,
        "provider": "mock",
        "mock_url": mock,
        "mock_recovery": plan.recovery,
        "mock_speed": plan.speed,
        "max_in_flight": plan.in_flight,
        "lease": plan.lease,
        "submit_timeout": plan.submit_timeout,
        "generation_timeout": 40,
        "poll_interval": 0.2,
        "retry_base": 0.1,
        "retry_max": 0.5,
        "lane_pause": 0.4,
        "log_format": "json",
        "log_level": "info",
    }
    kept = {name: value for name, value in base.items() if name.upper() not in ours}
    return kept | {name.upper(): str(value) for name, value in settings.items()}
