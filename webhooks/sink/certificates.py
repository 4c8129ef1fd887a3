"""A certificate for every way in which one can be wrong, made when it is first needed. Needs `cryptography`."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from webhooks.sink.answer import Certificate

NAMES = ("localhost", "127.0.0.1", "::1")
"""What the good certificate is for."""
ELSEWHERE = ("other.example",)
_DAY = timedelta(days=1)


class Certificates:
    """An authority of its own and what it signs, good for these names; nothing is kept on disk."""

    def __init__(self, names: tuple[str, ...] = NAMES) -> None:
        self._names = names
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._authority = _certificate("Dailies sink", self._key, None, (), authority=True)
        self._contexts: dict[Certificate, ssl.SSLContext] = {}

    @property
    def authority(self) -> bytes:
        """The authority as PEM, for clients that shall trust it."""
        return self._authority.public_bytes(serialization.Encoding.PEM)

    def context(self, kind: Certificate) -> ssl.SSLContext:
        """A server's context that shows this certificate."""
        if kind not in self._contexts:
            self._contexts[kind] = self._make(kind)
        return self._contexts[kind]

    def _make(self, kind: Certificate) -> ssl.SSLContext:
        names = ELSEWHERE if kind is Certificate.WRONG_NAME else self._names
        issuer = None if kind is Certificate.SELF_SIGNED else self._authority
        shown = _certificate("sink", self._key, issuer, names, expired=kind is Certificate.EXPIRED)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "chain.pem"
            path.touch(mode=0o600)
            path.write_bytes(shown.public_bytes(serialization.Encoding.PEM) + _pem(self._key))
            context.load_cert_chain(path)
        return context


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    kind = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    names: tuple[str, ...],
    *,
    authority: bool = False,
    expired: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * _DAY)
        .not_valid_after(now - _DAY if expired else now + 30 * _DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    if authority:
        builder = builder.add_extension(_AUTHORITY_USES, critical=True)
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
    return builder.sign(key, hashes.SHA256())


_AUTHORITY_USES = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
