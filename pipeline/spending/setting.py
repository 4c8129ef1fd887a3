"""Setting: the caps as they are set."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.config import Settings
from pipeline.spending.caps import SETTINGS, Caps
from pipeline.spending.purse import Purse
from providers.base import Catalogue


def purse_of(settings: Settings, catalogues: Mapping[str, Catalogue]) -> Purse:
    """What may be spent at the providers of these catalogues. Caps that were set on purpose bound play money, too."""
    caps = Caps.of_texts(
        user=settings.spend_per_user_day,
        tenant=settings.spend_per_tenant_day,
        providers=settings.spend_per_provider_day,
        service=settings.spend_per_day,
        chosen=[bound for bound, name in SETTINGS.items() if name.lower() in settings.model_fields_set],
        play=[name for name, catalogue in catalogues.items() if catalogue.play_money],
    )
    return Purse(caps, settings.queue_timeout)
