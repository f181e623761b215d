"""Objects as keyframes told them again at corrected poses, in the place of those that there were.

Objects keep the ids that most of their sightings had; ids that are left over name what they proved to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from embodied_mem.memory.contents import Contents
from embodied_mem.memory.scene.graph import SceneGraph
from embodied_mem.memory.scene.objects import Objects
from embodied_mem.memory.submaps.keyframe import with_objects
from embodied_mem.memory.submaps.retelling import Retelling, Retold


def believe(contents: Contents, retelling: Retelling, packed: Mapping[int, bytes]) -> None:
    """Takes over from what was told again the objects that came out otherwise; others stay as they are.

    Args:
        contents: changed in place.
        retelling: of keyframes at the poses that they have now.
        packed: submaps of these by entry id.
    """
    table = contents.scene.object_table
    told = retelling.result(table)
    doubts = {int(table.ids[row]) for i in retelling.doubts if (row := table.index(i)) >= 0}
    contents.scene.version += 1
    contents.scene.touch("object", sorted(doubts))
    final: dict[int, int] = {}
    for own, others in _groups(told.shares):
        if doubts.isdisjoint(own):
            continue
        if len(own) == len(others) == 1:
            _revise(table, own[0], told, others[0])
        else:
            final.update(_regroup(contents.scene, told, own, others))
    if final:
        _rename(contents, told, final, packed)


def _groups(shares: Iterable[tuple[int, int]]) -> list[tuple[list[int], list[int]]]:
    """Returns ids here and ids there that have sightings in common with each other alone, by group."""
    there: dict[int, set[int]] = {}
    here: dict[int, set[int]] = {}
    for a, b in shares:
        there.setdefault(a, set()).add(b)
        here.setdefault(b, set()).add(a)
    groups: list[tuple[list[int], list[int]]] = []
    done: set[int] = set()
    for start in sorted(there):
        if start in done:
            continue
        own: set[int] = {start}
        others: set[int] = set()
        todo = [start]
        while todo:
            for other in there[todo.pop()] - others:
                others.add(other)
                todo += here[other] - own
                own |= here[other]
        done |= own
        groups.append((sorted(own), sorted(others)))
    return groups


def _revise(table: Objects, own: int, told: Retold, other: int) -> None:
    """Puts an object where it was told to be, and back where what spoke against it was seen elsewhere."""
    theirs = told.scene.object_table
    row, there = table.index(own), theirs.index(other)
    is_back = table.since[row] < 0 <= theirs.since[there] and told.confirmed[own] < told.missed[own]
    if is_back or theirs.counts[there] >= table.counts[row]:
        kept = table.states[row], table.embeddings[row], table.votes[row]
        table.become(row, theirs, there)
        table.states[row], table.embeddings[row], table.votes[row] = kept
    else:  # it was seen between keyframes too, and may have been missed there
        table.place(row, theirs, there)


def _regroup(scene: SceneGraph, told: Retold, own: list[int], others: list[int]) -> dict[int, int]:
    """Makes some objects what they were told to be; returns which id is whose: told -> in the memory."""
    table, theirs = scene.object_table, told.scene.object_table
    common = sorted((-told.shares[a, b], a, b) for a in own for b in others if told.shares[a, b])
    final: dict[int, int] = {}
    for _, a, b in common:
        if a not in final.values() and b not in final:
            final[b] = a
    for a in own:
        scene.identity.forget(a)
        if a not in final.values():  # one of several ids that proved to be one thing's
            keep = final[next(b for _, mine, b in common if mine == a)]
            table.absorb(table.index(keep), table.index(a))
            scene.touch("object", [a], gone=True)
    for b in others:
        if b in final:
            table.become(table.index(final[b]), theirs, theirs.index(b))
        else:
            final[b] = table.begin_as(theirs, theirs.index(b))
    for (a, b), count in told.scene.identity.together.items():
        if a in final and b in final:
            pair = sorted((final[a], final[b]))
            scene.identity.together[pair[0], pair[1]] = count
    scene.touch("object", list(final.values()))
    return final


def _rename(contents: Contents, told: Retold, final: Mapping[int, int], packed: Mapping[int, bytes]) -> None:
    """Writes the ids that sightings have now into keyframes, entries and encounters.

    Summaries keep the ids they have. Encounters are made anew of what keyframes show.
    """
    episodes = contents.episodes
    for object_id in sorted({own for own, other in told.shares if other in final}):
        episodes.encounters.forget_object(object_id)
    for entry_id, found in told.seen.items():
        now = {k: final[other] for k, _, other in found if other in final}
        row = episodes.index(entry_id)
        if not now or row < 0:
            continue
        episodes.encounters.observe(now.values(), int(episodes.stamps[row]))
        if any(now.get(k, own) != own for k, own, _ in found):
            episodes.rename(row, [now.get(k, own) for k, own, _ in found])
            contents.submaps.add(entry_id, with_objects(packed[entry_id], now))
