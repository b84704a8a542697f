"""The content address: bytes are named by what they are, so a name is checked by hashing again."""

import hashlib


def address(data: bytes) -> str:
    """Return the SHA-256 of `data`, as 64 lowercase hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
