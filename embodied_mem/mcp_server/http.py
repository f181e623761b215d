"""The server over HTTP, for this machine only and for those who know the token."""

from __future__ import annotations

import hmac
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer

HOST = "127.0.0.1"


class TokenGate:
    """An ASGI application that lets only requests with the right bearer token through.

    Args:
        app: the application behind it.
        token: what `Authorization: Bearer ...` must hold.
    """

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._wanted = f"Bearer {token}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes a request on, or answers 401."""
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._wanted):
                headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer")]
                await send({"type": "http.response.start", "status": 401, "headers": headers})
                await send({"type": "http.response.body", "body": b"a bearer token is needed\n"})
                return
        await self._app(scope, receive, send)


def serve_http(server: MCPServer, port: int, token: str) -> None:
    """Serves until Ctrl-C, at http://127.0.0.1:PORT/mcp.

    Args:
        server: with its tools.
        port: to listen on.
        token: what clients must send.
    """
    app = TokenGate(server.streamable_http_app(), token)
    uvicorn.run(app, host=HOST, port=port, log_level="warning")
