"""Where files live: a folder of this machine, or a bucket of R2 or any S3, behind one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.storage.base import (
    MAX_LINK_LIFETIME,
    IntegrityError,
    InvalidKey,
    ObjectMissing,
    ObjectTooLarge,
    Storage,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    StoredObject,
)
from pipeline.storage.local import LocalStorage
from pipeline.storage.s3 import S3Storage
from pipeline.storage.signer import Account

if TYPE_CHECKING:
    import httpx

    from pipeline.config import Settings

__all__ = [
    "MAX_LINK_LIFETIME",
    "Account",
    "IntegrityError",
    "InvalidKey",
    "LocalStorage",
    "ObjectMissing",
    "ObjectTooLarge",
    "S3Storage",
    "Storage",
    "StorageDenied",
    "StorageError",
    "StorageUnavailable",
    "StoredObject",
    "create_storage",
]


def create_storage(settings: Settings, client: httpx.AsyncClient) -> Storage:
    """What the settings name: R2, or the S3 at R2_ENDPOINT_URL, once its variables are set; else `DATA_DIR/files`."""
    if not (settings.r2_bucket and settings.r2_access_key_id and settings.r2_secret_access_key):
        return LocalStorage(settings.data_dir / "files")
    account = Account(
        endpoint=settings.r2_endpoint_url or f"https://{settings.r2_account_id}.r2.cloudflarestorage.com",
        bucket=settings.r2_bucket,
        access_key_id=settings.r2_access_key_id,
        secret_access_key=settings.r2_secret_access_key.get_secret_value(),
    )
    return S3Storage(account, client, public_url=settings.r2_public_url, prefix=settings.r2_prefix)
