"""What an S3 server's refusal means, in our errors and in words that say what to do. Pure.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and
https://developers.cloudflare.com/r2/api/error-codes/ (read 2026-11).
"""

from __future__ import annotations

import re

from pipeline.storage.base import IntegrityError, ObjectMissing, StorageDenied, StorageError, StorageUnavailable

_ADVICE = {
    "SignatureDoesNotMatch": "R2_SECRET_ACCESS_KEY does not belong to R2_ACCESS_KEY_ID, or is incomplete",
    "InvalidAccessKeyId": "the storage does not know R2_ACCESS_KEY_ID: is it of this account, was it revoked?",
    "Unauthorized": "the storage does not accept R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY: are they of this account?",
    "NoSuchBucket": "there is no such bucket: create it, or correct R2_BUCKET and R2_ACCOUNT_ID",
    "InvalidBucketName": "R2_BUCKET is not a bucket's name",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it (NTP)",
    "ExpiredRequest": "a link had expired when it was used: this machine's clock is wrong, set it (NTP)",
    "AuthorizationHeaderMalformed": "the bucket is in another region than R2_ENDPOINT_URL says",
    "PermanentRedirect": "the bucket is at another endpoint than R2_ENDPOINT_URL says",
    "EntityTooLarge": "the file is larger than the storage takes",
}
_FORBIDDEN = (
    "the storage refuses these keys: R2_ACCESS_KEY_ID or R2_SECRET_ACCESS_KEY is wrong, "
    "or the token lacks 'Object Read & Write' on this bucket"
)
_CORRUPT = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidPart"}
)
_BUSY = frozenset(
    {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "OperationAborted", "IncompleteBody"}
)
_FIELD = {name: re.compile(f"<{name}>([^<]{{1,300}})</{name}>") for name in ("Code", "Message")}


def refusal(status: int, code: str, message: str, what: str) -> StorageError:
    """The error for an answer with this HTTP status, S3 code and message to `what` (such as "PUT a/b.mp4")."""
    said = f"{what}: {status} {code} {message}".strip()
    error, reason = _meaning(status, code)
    return error(f"{reason} ({said})")


def _meaning(status: int, code: str) -> tuple[type[StorageError], str]:
    busy = code in _BUSY or status >= 500 or status in (408, 425, 429)
    rules = (
        (code in _CORRUPT, IntegrityError, "the storage received other bytes than were sent"),
        (code == "NoSuchUpload", StorageUnavailable, "the upload has to begin anew"),
        (busy, StorageUnavailable, "the storage cannot answer now"),
        (code in _ADVICE, StorageDenied, _ADVICE.get(code, "")),
        (status in (401, 403), StorageDenied, _FORBIDDEN),
        (status == 404, ObjectMissing, "nothing is stored there"),
    )
    found = ((error, reason) for applies, error, reason in rules if applies)
    return next(found, (StorageDenied, "the storage refused the request"))


def read_refusal(status: int, body: bytes, what: str) -> StorageError:
    """The same from the XML of an error answer, of which the first few kilobytes are enough."""
    text = body.decode("utf-8", "replace")
    found = {name: pattern.search(text) for name, pattern in _FIELD.items()}
    code, message = (match.group(1) if match else "" for match in found.values())
    return refusal(status, code, message, what)
