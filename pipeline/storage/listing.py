"""One page of a bucket's listing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.storage.base import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def list_page(
    client: S3Client, bucket: str, *, prefix: str, count: int, token: str | None
) -> tuple[list[StoredObject], str | None]:
    """Up to `count` objects under `prefix`, and the token of the next page, if there is one. Blocking."""
    more: dict[str, Any] = {} if token is None else {"ContinuationToken": token}
    page = client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=count, **more)
    found = [
        StoredObject(item["Key"], item["Size"], item["LastModified"].timestamp()) for item in page.get("Contents", ())
    ]
    return found, page.get("NextContinuationToken") if page.get("IsTruncated") else None
