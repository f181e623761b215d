"""Questions and commands to a memory as JSON, and its answers: what would need custom services."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from embodied_mem.configs import from_mapping
from embodied_mem.errors import ConfigError, EmbodiedMemError, InputError
from embodied_mem.log import messages, topics
from embodied_mem.memory import Memory
from embodied_mem.ros.declaration import EVENT, Endpoint
from embodied_mem.types import Command, Query

QUERY = Endpoint(
    "memory/query", topics.STRING, EVENT, 'JSON: the fields of Query, and "id" to know the answer by'
)
ANSWER = Endpoint("memory/answer", topics.STRING, EVENT, 'JSON: "id" of the query, "answers" or "error"')
COMMAND = Endpoint(
    "memory/command", topics.STRING, EVENT, 'JSON: "name" and "arguments" of a command, as in a ledger'
)
FACTS = ("info", "digest", "flush")


def read_query(content: Any) -> Query:
    """Reads a query from JSON.

    Raises:
        InputError: an unknown field (with the nearest one), or a value of the wrong kind.
    """
    if not isinstance(content, dict):
        raise InputError(f'a query is a JSON object, for example {{"label": "mug"}}, got {content!r}')
    values = {key: value for key, value in content.items() if key != "id"}
    like = values.pop("like", None)
    near = values.get("near")
    if isinstance(near, list) and all(isinstance(v, (int, float)) for v in near):
        values["near"] = [float(v) for v in near]
    try:
        query: Query = from_mapping(Query, values)
    except ConfigError as error:
        raise InputError(f"query: {error}") from None
    return query if like is None else dataclasses.replace(query, like=np.array(like, np.float32))


def answer(memory: Memory, data: Any) -> Any:
    """Answers a std_msgs/String that holds a query; errors are answers too.

    Beside the fields of a query, {"ask": "info"} and {"ask": "digest"} tell of the memory itself, and
    {"ask": "flush"} answers when everything is on the disk: hosts without services have no other way.
    """
    reply: dict[str, Any] = {"id": None}
    try:
        content = messages.read_json(data, QUERY.topic)
        reply["id"] = content.get("id") if isinstance(content, dict) else None
        if isinstance(content, dict) and "ask" in content:
            reply |= _facts(memory, content["ask"])
        else:
            found = memory.recall(read_query(content))
            reply["answers"] = [dataclasses.asdict(item) for item in found]
            reply["stamp"] = memory.stamp
    except EmbodiedMemError as error:
        reply["error"] = str(error)
    return messages.json_string(reply)


def _facts(memory: Memory, what: Any) -> dict[str, Any]:
    if what not in FACTS:
        raise InputError(f'"ask" must be one of {", ".join(FACTS)}, got {what!r}')
    if what == "info":
        return memory.info()
    if what == "flush":
        memory.flush()
        return {"sequence": memory.sequence, "durable_sequence": memory.durable_seq}
    return {"digest": memory.digest(), "sequence": memory.sequence}


def read_command(message: Any) -> Command:
    """Reads a command for the memory from a std_msgs/String.

    Raises:
        EmbodiedMemError: it is none.
    """
    content = messages.read_json(message, COMMAND.topic)
    if not isinstance(content, dict) or not isinstance(content.get("name"), str):
        raise InputError(f'a command is a JSON object with "name" and "arguments", got {content!r}')
    arguments = content.get("arguments", {})
    if not isinstance(arguments, dict):
        raise InputError(f'"arguments" of a command must be a JSON object, got {arguments!r}')
    return Command(content["name"], arguments)
