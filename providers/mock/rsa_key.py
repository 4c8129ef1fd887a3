"""An RSA key made of a secret, always the same one: who restarts the mock finds its signatures still good.

For the mock alone: the numbers come from a generator that is no secret's friend.
"""

from __future__ import annotations

import math
import random
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

_E = 65537
_HALF = 1024
_SMALL = math.prod(n for n in range(3, 2000) if all(n % d for d in range(2, math.isqrt(n) + 1)))


@lru_cache(maxsize=8)
def rsa_key(secret: bytes) -> rsa.RSAPrivateKey:
    """The key of 2,048 bits that belongs to a secret; making it takes some tenths of a second."""
    source = random.Random(secret)  # noqa: S311 - see above
    p, q = _prime(source), _prime(source)
    d = pow(_E, -1, math.lcm(p - 1, q - 1))
    public = rsa.RSAPublicNumbers(_E, p * q)
    crt = (rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q))
    return rsa.RSAPrivateNumbers(p, q, d, *crt, public).private_key()


def public_jwk(secret: bytes, kid: str) -> dict[str, Any]:
    """The public half as a JWK, for a JWKS."""
    jwk: dict[str, Any] = RSAAlgorithm.to_jwk(rsa_key(secret).public_key(), as_dict=True)
    return {"kid": kid, "use": "sig", "alg": "RS256", **{name: jwk[name] for name in ("kty", "n", "e")}}


def _prime(source: random.Random) -> int:
    while True:
        candidate = source.getrandbits(_HALF) | 1 | 3 << (_HALF - 2)
        if math.gcd(candidate, _SMALL) == 1 and math.gcd(candidate - 1, _E) == 1 and _is_prime(candidate, source):
            return candidate


def _is_prime(n: int, source: random.Random, rounds: int = 8) -> bool:
    """Miller and Rabin's test; random candidates of this size fool it with a chance below 2**-100."""
    shift = ((n - 1) & -(n - 1)).bit_length() - 1
    return all(_passes(n, source.randrange(2, n - 1), shift) for _ in range(rounds))


def _passes(n: int, base: int, shift: int) -> bool:
    x = pow(base, (n - 1) >> shift, n)
    if x in {1, n - 1}:
        return True
    for _ in range(shift - 1):
        x = x * x % n
        if x == n - 1:
            return True
    return False
