"""Rerun's viewer in a browser on this machine, with everything from outside kept out.

Rerun's own page asks for web fonts and counts visits. Here it passes through a server of ours that
sends it with a Content-Security-Policy, by which the browser loads from this machine alone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from embodied_mem.errors import EmbodiedMemError

HOST = "127.0.0.1"
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob: data:; "
    "connect-src 'self' http://127.0.0.1:* ws://127.0.0.1:* blob: data:"
)
PATIENCE = 30.0
"""How long Rerun's servers may take to start [s]."""
QUIET = {**os.environ, "CI": "true"}
"""The environment of Rerun's programs: on CI they send no usage statistics."""


def open_window(recording: Path) -> int:
    """Shows a recording in a window of its own; returns when that is closed, with its exit code."""
    return subprocess.run([sys.executable, "-m", "rerun", str(recording)], check=False, env=QUIET).returncode


def open_page(recording: Path, port: int) -> None:
    """Shows a recording in the browser until Ctrl-C.

    Args:
        recording: an .rrd file.
        port: of the page.

    Raises:
        EmbodiedMemError: the port is taken, or Rerun does not start.
    """
    with serving(recording, port) as url:
        print(f"{url}  (Ctrl-C ends it)", flush=True)
        webbrowser.open(url)
        while True:
            time.sleep(3600)


@contextmanager
def serving(recording: Path | None, port: int) -> Iterator[str]:
    """Serves a recording on this machine, and yields the address of the page.

    Args:
        recording: an .rrd file; None waits for a stream that connects to `data_address`.
        port: of the page.

    Raises:
        EmbodiedMemError: the port is taken, or Rerun does not start.
    """
    inner, data = _free_port(), _free_port()
    command = [sys.executable, "-m", "rerun", "--serve-web", "--bind", HOST]
    command += [] if recording is None else [str(recording)]
    command += ["--web-viewer-port", str(inner), "--port", str(data)]
    try:
        page = ThreadingHTTPServer((HOST, port), _handler(f"http://{HOST}:{inner}"))
    except OSError as error:
        raise EmbodiedMemError(f"port {port}: {error.strerror}; choose another with --port") from None
    quiet = subprocess.DEVNULL
    viewer = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=QUIET, start_new_session=True)
    try:
        _wait(viewer, inner)
        _start(page)
        if recording is None:
            _wait(viewer, data)
        yield f"http://{HOST}:{page.server_address[1]}/?url=rerun%2Bhttp://{HOST}:{data}/proxy"
    finally:
        page.shutdown()
        page.server_close()
        os.killpg(viewer.pid, signal.SIGTERM)  # Rerun's Python command starts a program, which must end too
        viewer.wait()


@contextmanager
def live_stream(name: str, port: int, *, web: bool) -> Iterator[Any]:
    """Opens a viewer in a browser or a window, and yields a stream into it."""
    import rerun as rr

    from embodied_mem.viz.rerun_view import APPLICATION

    stream = rr.RecordingStream(APPLICATION, recording_id=f"{name}-{os.getpid()}")
    if not web:
        stream.spawn()
        yield stream
        return
    with serving(None, port) as page:
        stream.connect_grpc(data_address(page))
        print(f"{page}  (Ctrl-C ends it)", flush=True)
        webbrowser.open(page)
        try:
            yield stream
        finally:
            stream.disconnect()


def data_address(page: str) -> str:
    """Returns where the page at an address gets its data, which is where a stream connects."""
    return urllib.parse.unquote(page.rpartition("url=")[2])


def _start(server: ThreadingHTTPServer) -> None:
    from threading import Thread

    Thread(target=server.serve_forever, daemon=True).start()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait(viewer: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and viewer.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.1)
    raise EmbodiedMemError("Rerun's web viewer does not start; try --save FILE.rrd and `rerun FILE.rrd`")


def _handler(origin: str) -> type[BaseHTTPRequestHandler]:
    """Returns a handler that passes requests on to `origin` and adds the policy."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                with urllib.request.urlopen(origin + self.path.partition("?")[0], timeout=PATIENCE) as answer:
                    body, kind = answer.read(), answer.headers.get("Content-Type", "application/octet-stream")
            except urllib.error.URLError:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", POLICY)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keeps the terminal quiet."""

    return Page
