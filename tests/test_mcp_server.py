from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp.server.mcpserver", reason="mcp 2 is not installed (extra: mcp)")

from mcp import Client, StdioServerParameters, stdio_client

from embodied_mem.cli import main
from embodied_mem.mcp_server.server import make_server
from embodied_mem.mcp_server.source import MemorySource
from embodied_mem.memory import Memory
from embodied_mem.verbs.record import record_episode


@pytest.fixture
def memory_file(tmp_path: Path) -> Path:
    return record_episode("EmbodiedMem/Playground-v0", tmp_path, seed=7, steps=120).memory


def ask(target: Any, question: Callable[[Client], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with Client(target) as client:
            return await question(client)

    return asyncio.run(run())


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content["result"]


@pytest.fixture
def source(memory_file: Path) -> Iterator[MemorySource]:
    source = MemorySource(memory_file)
    yield source
    source.close()


def test_a_planner_gets_what_the_memory_knows(source: MemorySource):
    async def question(client: Client) -> Any:
        answers = await call(client, "recall", label="key", kind="object", k=2)
        return (
            answers,
            await call(client, "objects", label="key"),
            await call(client, "rooms"),
            await call(client, "changes"),
        )

    answers, things, rooms, changes = ask(make_server(source), question)
    known = {thing.id: thing for thing in source.memory.scene.objects()}
    assert len(answers) == 2 and all("key" in known[a["id"]].name and a["evidence"] for a in answers)
    assert {t["id"] for t in things} == {i for i, thing in known.items() if "key" in thing.name}
    names = [name for room in rooms for name in room["objects"]]
    assert sorted(names) == sorted(thing.name for thing in known.values() if thing.room_id >= 0)
    assert changes and {c["object_id"] for c in changes} <= set(known)


def test_a_question_in_words_gets_a_sentence_and_its_evidence(source: MemorySource):
    name = source.memory.scene.objects(label="key")[0].name

    async def question(client: Client) -> Any:
        result = await client.call_tool("ask", {"question": f"where did I last see the {name}"})
        return result.structured_content

    reply = ask(make_server(source), question)
    assert name in reply["sentence"] and reply["understood"]
    assert reply["answers"][0]["evidence"]


def test_resources_give_facts_scene_and_map(source: MemorySource):
    async def question(client: Client) -> Any:
        return [
            (await client.read_resource(f"memory://{name}")).contents[0]
            for name in ("info", "scene", "map.png")
        ]

    info, scene, picture = ask(make_server(source), question)
    assert json.loads(info.text)["digest"] == source.memory.digest()
    assert json.loads(scene.text)["rooms"]
    assert base64.b64decode(picture.blob).startswith(b"\x89PNG")


def tools(server: Any) -> set[str]:
    async def question(client: Client) -> set[str]:
        return {tool.name for tool in (await client.list_tools()).tools}

    return set(ask(server, question))


def test_nothing_can_be_changed_unless_it_was_allowed(memory_file: Path):
    reading = MemorySource(memory_file)
    assert tools(make_server(reading)) == {"ask", "recall", "objects", "rooms", "changes"}
    reading.close()
    writing = MemorySource(memory_file, writable=True)
    server = make_server(writing)
    assert tools(server) == {"ask", "recall", "objects", "rooms", "changes", "note", "forget"}

    async def change(client: Client) -> None:
        await call(client, "note", text="the mug is mine")
        key = (await call(client, "objects", label="key"))[0]["id"]
        await call(client, "forget", kind="object", id=key)
        found = await call(client, "recall", text="mug")
        assert found and "mug" in found[0]["text"]
        assert key not in [thing["id"] for thing in await call(client, "objects")]

    ask(server, change)
    writing.close()
    with Memory.open(memory_file, read_only=True) as memory:
        assert any(memory.episodes.entry(i).text == "the mug is mine" for i in memory.episodes.ids.tolist())


def test_a_bad_question_is_answered_with_one_clear_line(source: MemorySource):
    async def question(client: Client) -> Any:
        return await client.call_tool("recall", {"radius": -1.0, "near": (0.0, 0.0, 0.0)})

    result = ask(make_server(source), question)
    assert result.is_error and "\n" not in result.content[0].text and "radius" in result.content[0].text


def test_what_a_robot_writes_meanwhile_is_seen(memory_file: Path, source: MemorySource):
    with Memory.open(memory_file) as robot:
        robot.note("a parcel came")
        robot.flush()
        assert source.memory.episodes.entry(int(source.memory.episodes.ids[-1])).text == "a parcel came"


def test_over_stdio_as_a_planner_starts_it(memory_file: Path):
    command = StdioServerParameters(
        command=sys.executable, args=["-m", "embodied_mem", "serve", str(memory_file)], env=dict(os.environ)
    )

    async def question(client: Client) -> Any:
        return await call(client, "objects", label="key")

    assert ask(stdio_client(command), question)


def test_over_http_only_those_with_the_token_come_in(memory_file: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [
        sys.executable,
        "-m",
        "embodied_mem",
        "serve",
        str(memory_file),
        "--http",
        "--port",
        str(port),
    ]
    server = subprocess.Popen(arguments, env={**os.environ, "EMBODIED_MEM_TOKEN": "sesame"})
    try:
        assert status(port, "sesame") == 200
        assert status(port, "") == status(port, "sesamf") == 401
    finally:
        server.terminate()
        server.wait(30)


def status(port: int, token: str) -> int:
    """Sends the protocol's first message; returns the HTTP status."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/mcp", json.dumps(body).encode(), headers)
    for _ in range(200):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def test_a_missing_memory_is_said_in_one_line(tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["serve", str(tmp_path / "absent.emem")])
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1
