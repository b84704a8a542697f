"""Sealing: bytes as text that any process of the project opens, and nobody else can read or change.

AES-256-GCM under a key per purpose, derived from `SECRET_KEY`; what a key of `SECRET_KEY_FALLBACKS` sealed is opened
too. A sealed text names its key by four bytes that tell nothing of it, so rotation costs no trial.
"""

import base64
import binascii
import hashlib
import os
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.utils.crypto import salted_hmac

KEY_ID_BYTES: Final = 4
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16


class Unsealable(ValueError):
    """The text was not sealed for this purpose under a key of this project; the message is for the log."""


def derived_keys(purpose: str) -> list[bytes]:
    """Return one 32-byte key for `purpose` per secret key of the project, the current one first."""
    return list(_derived(purpose, settings.SECRET_KEY, tuple(settings.SECRET_KEY_FALLBACKS)))


def seal(purpose: str, data: bytes, *, prefix: str) -> str:
    """Return `prefix` and the sealed `data` in base64url, without padding. The prefix is bound too."""
    key_id, cipher = next(iter(_ring(tuple(derived_keys(purpose))).items()))
    nonce = os.urandom(NONCE_BYTES)
    sealed = cipher.encrypt(nonce, data, prefix.encode() + key_id)
    return prefix + base64.urlsafe_b64encode(key_id + nonce + sealed).rstrip(b"=").decode("ascii")


def unseal(purpose: str, text: str, *, prefix: str) -> bytes:
    """Return what `seal()` was given.

    Raises:
        Unsealable: another prefix, not such a text, sealed under an unknown key, or changed.
    """
    if not text.startswith(prefix):
        raise Unsealable("unknown version")
    body = text[len(prefix) :]
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Unsealable("malformed") from None
    # Base64 leaves bits over; a text that differs in those alone is not the one that was sealed.
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != body:
        raise Unsealable("malformed")
    key_id, nonce = raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES : KEY_ID_BYTES + NONCE_BYTES]
    sealed = raw[KEY_ID_BYTES + NONCE_BYTES :]
    if len(sealed) < TAG_BYTES:
        raise Unsealable("malformed")
    cipher = _ring(tuple(derived_keys(purpose))).get(key_id)
    if cipher is None:
        raise Unsealable("unknown key")
    try:
        return cipher.decrypt(nonce, sealed, prefix.encode() + key_id)
    except InvalidTag:
        raise Unsealable("bad seal") from None


@lru_cache(maxsize=32)
def _derived(purpose: str, secret: str, fallbacks: tuple[str, ...]) -> tuple[bytes, ...]:
    secrets = dict.fromkeys([secret, *fallbacks])
    return tuple(salted_hmac(purpose, purpose, secret=key, algorithm="sha256").digest() for key in secrets)


@lru_cache(maxsize=32)
def _ring(keys: tuple[bytes, ...]) -> dict[bytes, AESGCM]:
    """Return the ciphers by the id of their key, the current one first."""
    ring: dict[bytes, AESGCM] = {}
    for key in keys:
        ring.setdefault(hashlib.sha256(b"key id" + key).digest()[:KEY_ID_BYTES], AESGCM(key))
    return ring
