"""Security of the web app: headers, body sizes, rate limits, signatures."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import ClassVar

from fastapi import HTTPException, Request
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 16 * 1024
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # no-referrer would make a form's Origin null.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}


class SecureHeaders:
    """Middleware that adds security headers, disables caching by default and limits body sizes."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def bounded_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPException(413, "This request is too large.")
            return message

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, bounded_receive, send_with_headers)


class Limits:
    """Rate limits, counted in this process.

    Wrong codes and tokens are counted per address; a rater's requests per rater, so that several
    raters may share an address.
    """

    _RATES: ClassVar = {
        "guess": parse("20/minute"),
        "visit": parse("6000/minute"),
        "rater": parse("900/minute"),
    }

    def __init__(self) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def hit(self, kind: str, client: str) -> None:
        """Count one request. Raises HTTPException 429 above the limit."""
        if not self._limiter.hit(self._RATES[kind], kind, client):
            raise HTTPException(429, "Too many requests. Wait a minute, then go on.")

    def check(self, kind: str, client: str) -> None:
        """Raise HTTPException 429 if the limit is reached."""
        if not self._limiter.test(self._RATES[kind], kind, client):
            raise HTTPException(429, "Too many wrong attempts. Wait a minute, then try again.")


class Signer:
    """Derives values that require the study's key.

    Args:
        key: hexadecimal.
    """

    def __init__(self, key: str):
        self._key = bytes.fromhex(key)

    def sign(self, purpose: str, value: str) -> str:
        """Return a signature of the purpose and the value, 43 URL-safe characters."""
        digest = hmac.digest(self._key, f"{purpose}\0{value}".encode(), hashlib.sha256)
        return urlsafe_b64encode(digest).rstrip(b"=").decode()

    def check(self, signature: str, purpose: str, value: str) -> bool:
        """Return whether a signature is that of the purpose and the value."""
        return secrets_equal(signature, self.sign(purpose, value))


def secrets_equal(a: str, b: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(a.encode(), b.encode())


def client_address(request: Request) -> str:
    """Return the IP address that a request comes from."""
    return request.client.host if request.client else "unknown"
