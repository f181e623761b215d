"""Let language-model planners ask a memory, over the Model Context Protocol."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from embodied_mem.errors import InputError

TOKEN = "EMBODIED_MEM_TOKEN"
"""The environment variable with the token that HTTP clients must send."""


def serve(memory: Path, http: bool = False, port: int = 8765, writable: bool = False) -> int:
    """Let language-model planners ask a memory: a Model Context Protocol server.

    Over stdio by default, as planners start it. Tools: ask, recall, objects, rooms, changes; with
    --writable also note and forget. A memory that a robot is writing is read anew as it grows.

    Examples:
        embodied-mem serve home.emem                       # what a planner starts (stdio)
        embodied-mem serve home.emem --http --port 8765    # prints the address and the token
        embodied-mem serve home.emem --writable            # notes and forgetting too

    Args:
        memory: an .emem file.
        http: serve http://127.0.0.1:PORT/mcp instead; clients send the token as a bearer token.
        port: of --http.
        writable: allow notes and forgetting; no other program can write the file meanwhile.
    """
    if not memory.is_file():
        raise InputError(f"no such memory: {memory}")
    from embodied_mem.mcp_server.server import make_server
    from embodied_mem.mcp_server.source import MemorySource

    source = MemorySource(memory, writable=writable)
    server = make_server(source)
    try:
        if http:
            from embodied_mem.mcp_server.http import serve_http

            token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
            shown = f"the token in {TOKEN}" if os.environ.get(TOKEN) else f"token {token}"
            print(f"http://127.0.0.1:{port}/mcp, {shown} (Ctrl-C ends it)", file=sys.stderr, flush=True)
            serve_http(server, port, token)
        else:
            server.run("stdio")
    finally:
        source.close()
    return 0
