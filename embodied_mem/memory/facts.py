"""What a memory says of itself: what is in it, from when to when, how large, what is gone."""

from __future__ import annotations

from typing import Any

from embodied_mem.configs import to_mapping
from embodied_mem.memory.contents import Contents
from embodied_mem.memory.store.store import SCHEMA


def facts(contents: Contents) -> dict[str, Any]:
    """Returns JSON-ready facts about the contents of a memory; sizes on disk are the archive's to add."""
    episodes, scene, octree = contents.episodes, contents.scene, contents.octree
    last = contents.stamp or 0
    return {
        "map_id": contents.map_id,
        "digest": contents.digest(),
        "schema": SCHEMA,
        "voxels": len(octree),
        "occupied_voxels": octree.num_occupied,
        "objects": len(scene.objects()),
        "places": len(scene.places()),
        "rooms": len(scene.rooms()),
        "episodes": len(episodes),
        "first_stamp": episodes.first_stamp,
        "last_stamp": last,
        "seconds": (last - episodes.first_stamp) / 1e9,
        "runs": [{"since": since, "offset": offset} for since, offset in contents.runs],
        **contents.counts,
        "embedders": contents.embedders.to_state(),
        "last_rejection": contents.last_rejection,
        "quarantine": contents.quarantine,
        "labels": list(contents.labels.names[1:]),
        "octree_bytes": octree.nbytes,
        "sequence": contents.sequence,
        "config": to_mapping(contents.config),
    }
