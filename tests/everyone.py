"""Settings by which every provider can be asked, all of them at one mock that speaks their dialects."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pipeline.app import Plant
from providers.registry import PROVIDERS

REAL = tuple(name for name in PROVIDERS if name != "mock")


def at_the_mock(mock_url: str, folder: Path, *, reached_at: str | None = None) -> dict[str, Any]:
    """Keys, addresses and secrets of all, and no caps on spending. `reached_at` is where they are asked instead of the
    mock's own address."""
    base = reached_at or mock_url
    values: dict[str, Any] = {f"{name}_url": f"{base}/{name}" for name in REAL}
    values |= {f"{name}_api_key": "test:key" for name in REAL if name != "google_veo"}
    return values | {
        "google_veo_project": "proj",
        "google_veo_credentials": service_account(folder, f"{mock_url}/google_veo/token"),
        "google_veo_storage_url": f"{base}/google_veo",
        "fal_jwks_url": f"{base}/fal/.well-known/jwks.json",
        "replicate_url": f"{base}/replicate/v1",
        "openai_videos_url": f"{base}/openai_videos/v1",
        "spend_per_user_day": "none",
        "spend_per_provider_day": "none",
        "spend_per_day": "none",
    }


def service_account(folder: Path, token_uri: str) -> Path:
    """A service account's file as Google Cloud hands it out, whose tokens come from `token_uri`."""
    path = folder / "service-account.json"
    account = {
        "type": "service_account",
        "project_id": "proj",
        "private_key_id": "k1",
        "private_key": _key(),
        "client_email": "dailies@proj.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(account))
    return path


@cache
def _key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def hasten(plant: Plant, speed: float) -> None:
    """Let every provider be as quick as the mock behind it: its videos' usual time and its polls' minimum."""
    for provider in plant.providers.ready.values():
        catalogue = provider.capabilities.catalogue
        models = {
            name: replace(model, typical_seconds=model.typical_seconds / speed)
            for name, model in catalogue.models.items()
        }
        catalogue = replace(catalogue, models=models, poll_seconds=min(0.1, catalogue.poll_seconds / speed))
        provider.capabilities = replace(provider.capabilities, catalogue=catalogue)
