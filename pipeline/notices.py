"""What an operator should know about a service that has started. Pure."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Settings
from pipeline.outbound import proxy_of
from pipeline.roster import MOCK, Providers, make_fallback
from pipeline.safety import webhook_is_blocked


def notices(settings: Settings, providers: Providers, *, secrets_in: Path | None, anyone: bool) -> list[str]:
    """A sentence for each thing.

    Args:
        secrets_in: where secrets were made that nobody had set.
        anyone: whether everyone who can connect may call.
    """
    found = []
    if anyone:
        found.append("there is no key (API_KEY or `dailies keys`): everyone on this machine may call, nobody else can")
    if secrets_in is not None:
        found.append(f"secrets that were not set are kept in {secrets_in}")
    if settings.allowed_networks:
        networks = ", ".join(map(str, settings.allowed_networks))
        found.append(f"requests to addresses that others choose may go to {networks} (ALLOWED_NETWORKS)")
    if (proxy := proxy_of(settings)) is not None:
        found.append(f"requests to public addresses that others choose go through {proxy.place} (EGRESS_PROXY)")
    found += _lacking(settings, providers)
    if settings.provider == MOCK:
        found.append("PROVIDER=mock: videos are test pictures and nothing is charged")
    if webhook_is_blocked(settings):
        found.append(
            f"WEBHOOK_URL={settings.webhook_url} is on this machine and ALLOWED_NETWORKS does not allow that: no"
            " webhook will be sent; set ALLOWED_NETWORKS=127.0.0.0/8,::1/128 for development, as .env.example does"
        )
    return found


def _lacking(settings: Settings, providers: Providers) -> list[str]:
    """Providers that are to be asked by default and cannot be."""
    asked = [("PROVIDER", settings.provider or MOCK), *(("FALLBACK", name) for name, _ in make_fallback(settings))]
    return [
        f"{setting}={name} needs {' and '.join(needed)}: until then it is not asked"
        for setting, name in dict.fromkeys(asked)
        if (needed := providers.lacking.get(name))
    ]
