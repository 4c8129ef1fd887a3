"""Service accounts of Google Cloud as their key files are, with a key of our own."""

import functools
import hashlib
import json

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@functools.cache
def key():
    return rsa.generate_private_key(65537, 2048)


def account(token_uri, **changed):
    pem = key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "client_email": "dailies@my-project.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "private_key_id": "k1",
        "token_uri": token_uri,
        **changed,
    }


def key_file(folder, token_uri, **changed):
    """The path of a new key file."""
    text = json.dumps(account(token_uri, **changed))
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    path.write_text(text)
    return path
