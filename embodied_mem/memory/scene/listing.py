"""Objects, places and rooms as those who ask about the scene get them: copies of what the tables hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from embodied_mem.memory.scene.objects import Objects
from embodied_mem.memory.scene.places import Place, Places
from embodied_mem.memory.scene.rooms import Room, Rooms, room_name
from embodied_mem.memory.scene.stays import SceneObject
from embodied_mem.types import LabelMap


def object_of(
    o: Objects, row: int, places: Places, rooms: Rooms, names: LabelMap, as_of: int | None
) -> SceneObject | None:
    """Returns one object.

    Args:
        o: all objects.
        row: which of them.
        places: to say at which place it is.
        rooms: to say in which room.
        names: of the labels.
        as_of: as of which time [ns], see `SceneGraph.objects`; None: as of now.

    Returns:
        the object, or None where it was not seen by then.
    """
    history = o.history(row)
    position, state = o.positions[row].copy(), o.states[row]
    existence, last_seen = float(o.existence[row]), int(o.last_seen[row])
    if as_of is not None:
        history = tuple(s for s in history if s.valid_from <= as_of)
        if not history:
            return None
        stay = history[-1]
        position, state, last_seen = stay.position, stay.state, min(stay.last_seen, as_of)
        if stay.valid_to is not None:
            existence = stay.existence if as_of < stay.valid_to else 0.0
    return SceneObject(
        id=int(o.ids[row]),
        label=int(o.labels[row]),
        name=names.name(int(o.labels[row])),
        position=position,
        extent=o.extents[row].copy(),
        covariance=o.covariances[row].copy(),
        state=state,
        existence=existence,
        first_seen=int(o.first_seen[row]),
        last_seen=last_seen,
        count=int(o.counts[row]),
        place_id=places.at(position),
        room_id=rooms.at(position),
        history=history,
        embedding=o.embeddings[row],
        votes=tuple(sorted(o.votes[row].items(), key=lambda vote: (-vote[1], vote[0]))),
        yaw=float(o.yaws[row]),
    )


def places_of(p: Places, rooms: Rooms) -> list[Place]:
    """Returns all places, in the order of their ids."""
    return [
        Place(
            id=int(p.ids[i]),
            position=p.positions[i].copy(),
            clearance=float(p.clearances[i]),
            visits=int(p.visits[i]),
            last_visit=int(p.last_visits[i]),
            room_id=rooms.at(p.positions[i]),
            level=float(p.positions[i, 2]),
        )
        for i in range(len(p))
    ]


def rooms_of(r: Rooms, p: Places, inside: Mapping[int, Sequence[str]]) -> list[Room]:
    """Returns all rooms, in the order of their ids; `inside` has the names of the things in each, by id."""
    place_rooms = [r.at(position) for position in p.positions]
    extents, areas = r.extents(), r.areas()
    result = []
    for row, room_id in enumerate(r.ids.tolist()):
        elsewhere = [n for other, names in inside.items() if other != room_id for n in names]
        result.append(
            Room(
                id=room_id,
                position=r.positions[row].copy(),
                extent=extents[row],
                area=float(areas[row]),
                place_ids=tuple(int(i) for i, at in zip(p.ids, place_rooms) if at == room_id),
                name=room_name(room_id, inside.get(room_id, []), elsewhere),
            )
        )
    return result
