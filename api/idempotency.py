"""Idempotency-Key: a request that is repeated with its key is answered as the first time.

The answer is stored for 24 hours in the transaction of the change, so that a client which lost it
can repeat the request without changing anything twice. A key belongs to one user and one request:
with another request it is a 422, while the first is still being processed a 409 with Retry-After.
Only successful requests are stored; a refused one changed nothing and may be repeated.

Answers may hold secrets (a new access token), so they are encrypted with the key, of which only the
hash is stored.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from api.errors import ApiError
from db import idempotency
from db.unit_of_work import UnitOfWork

HEADER = "Idempotency-Key"
REPLAYED = (b"idempotency-replayed", b"true")
RETRY_AFTER = 1  # seconds
VALID = re.compile(r"[!-~]{16,128}")
NONCE_BYTES = 12

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Answer:
    """A complete response."""

    status: int
    headers: Headers
    body: bytes


class RequestInProgressError(ApiError):
    """The first request with this key has not been answered yet."""

    def __init__(self) -> None:
        super().__init__(
            409,
            f"A request with this {HEADER} is being processed: repeat it to receive its answer.",
        )


@dataclass(frozen=True)
class IdempotencyKey:
    """The key of a user's request."""

    owner: str
    key: str
    request_sha256: str  # of method, path, query and body

    @classmethod
    def of(cls, owner: str, key: str, *request: bytes) -> IdempotencyKey:
        """Return the key for a request, given as its parts; 422 for a key that can be guessed."""
        if not VALID.fullmatch(key):
            raise ApiError(
                422,
                f"The header {HEADER} is not valid: use a new random value of 16 to 128 ASCII "
                "characters, such as a UUID, for each request.",
            )
        digest = hashlib.sha256()
        for part in request:
            digest.update(hashlib.sha256(part).digest())
        return cls(owner, key, digest.hexdigest())

    def begin(self, unit: UnitOfWork) -> Answer | None:
        """Return the answer of the first request, None where this is the first.

        Until the unit is closed, no other request can use the key.
        """
        if not unit.try_lock(self._lock):
            raise RequestInProgressError
        with unit.session() as session:
            row = idempotency.stored_answer(session, self.owner, self._sha256)
        unit.rollback()
        if row is None:
            return None
        if row.request_sha256 != self.request_sha256:
            raise ApiError(
                422,
                f"This {HEADER} was used with another request: use a new one for each request.",
            )
        return self._decrypt(row.answer)

    def store(self, unit: UnitOfWork, answer: Answer) -> None:
        """Store the answer in the unit's transaction."""
        with unit.session() as session:
            idempotency.store_answer(
                session, self.owner, self._sha256, self.request_sha256, self._encrypt(answer)
            )
            session.commit()

    @property
    def _sha256(self) -> str:
        return hashlib.sha256(b"name\0" + self.key.encode()).hexdigest()

    @property
    def _lock(self) -> int:
        digest = hashlib.sha256(f"{self.owner}\0{self.key}".encode()).digest()
        return int.from_bytes(digest[:8], signed=True)

    @property
    def _cipher(self) -> AESGCM:
        return AESGCM(hashlib.sha256(b"answer\0" + self.key.encode()).digest())

    def _encrypt(self, answer: Answer) -> bytes:
        text = json.dumps(
            {
                "status": answer.status,
                "headers": [[name.decode("latin-1"), value.decode("latin-1")]
                            for name, value in answer.headers],
                "body": b64encode(answer.body).decode(),
            }
        )  # fmt: skip
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, text.encode(), None)

    def _decrypt(self, stored: bytes) -> Answer:
        nonce, text = stored[:NONCE_BYTES], stored[NONCE_BYTES:]
        fields = json.loads(self._cipher.decrypt(nonce, text, None))
        headers = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in fields["headers"]]
        return Answer(fields["status"], [*headers, REPLAYED], b64decode(fields["body"]))
