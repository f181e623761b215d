"""Write a procedural house as a scene that habitat-sim opens."""

from __future__ import annotations

from pathlib import Path


def export_house(seed: int = 0, out: Path = Path("runs/houses"), nights: int = 0) -> int:
    """Write a house as a scene that habitat-sim opens: GLB, semantics, rooms, configs.

    Houses that go to one folder form one scene dataset.

    Examples:
        embodied-mem export-house --seed 7 --out runs/houses
        embodied-mem record --env habitat:runs/houses --out runs/habitat

    Args:
        seed: of the house.
        out: folder of the scene dataset.
        nights: how often the house changed overnight before.
    """
    from embodied_mem.errors import ConfigError
    from embodied_mem.sim.house.export import export_house as write
    from embodied_mem.sim.house.house import make_house
    from embodied_mem.sim.house.overnight import change_house

    if nights < 0:
        raise ConfigError(f"nights must not be negative, got {nights}")
    house = make_house(seed)
    for night in range(nights):
        house, _ = change_house(house, night)
    dataset = write(house, out)
    print(f"house_{seed}: {len(house.rooms)} rooms, {len(house.things)} things, in {dataset}")
    print(f"as an environment: habitat:{out}")
    return 0
