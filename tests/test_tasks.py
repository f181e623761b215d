"""Rules of the memory tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from embodied_mem.configs import load_config
from embodied_mem.errors import ConfigError, InputError
from embodied_mem.policy import MemoPPO, PolicyConfig, PPOConfig
from embodied_mem.policy.vector import TaskVecEnv
from embodied_mem.sim.color_cubes import TOUCH, ColorCubes
from embodied_mem.sim.dark_key_to_door import MOVES, DarkKeyToDoor
from embodied_mem.sim.endless_tmaze import FORWARD, LEFT, RIGHT, STAY, EndlessTMaze
from embodied_mem.sim.memory_room import MemoryRoom
from embodied_mem.sim.passive_tmaze import DOWN, UP, PassiveTMaze
from embodied_mem.verbs.evaluate import evaluate, lengthened
from embodied_mem.verbs.train import TrainConfig, make_model

CONFIGS = Path(__file__).parents[1] / "sim_configs"

# ---------------------------------------------------------------- passive T-maze


@pytest.mark.parametrize("length", [1, 32, 256])
def test_the_cue_of_the_passive_t_maze_is_all_that_tells_the_turn(length: int) -> None:
    seen, goals = set(), set()
    for seed in range(12):
        env = PassiveTMaze(length)
        obs, _ = env.reset(seed=seed)
        cue = obs[1]
        goals.add(cue)
        walk = []
        for _ in range(length):
            obs, reward, terminated, _, _ = env.step(0)
            assert reward == 0.0 and not terminated
            walk.append(tuple(obs))
        seen.add(tuple(walk))
        obs, reward, terminated, truncated, info = env.step(UP if cue > 0 else DOWN)
        assert terminated and not truncated and reward == 1.0 and info["is_success"] and obs[1] == cue
    assert goals == {-1.0, 1.0}
    assert len(seen) == 1, "after the cue both mazes must look the same"


def test_the_passive_t_maze_has_no_step_to_spare_and_charges_for_idle_ones() -> None:
    env = PassiveTMaze(4)
    obs, _ = env.reset(seed=0)
    turn = UP if obs[1] > 0 else DOWN
    assert env.step(turn)[1] == -0.25
    for _ in range(3):
        env.step(0)
    _, reward, terminated, _, info = env.step(0)
    assert terminated and reward == 0.0 and not info["is_success"]


def test_a_wrong_turn_in_the_passive_t_maze_earns_nothing() -> None:
    env = PassiveTMaze(3)
    obs, _ = env.reset(seed=0)
    for _ in range(3):
        env.step(0)
    _, reward, terminated, _, info = env.step(DOWN if obs[1] > 0 else UP)
    assert terminated and reward == 0.0 and not info["is_success"]


def test_the_passive_t_maze_draws_its_length_from_the_range() -> None:
    env = PassiveTMaze(6, min_length=3)
    lengths = [env.reset(seed=seed) and env.length for seed in range(40)]
    assert set(lengths) == {3, 4, 5, 6}
    with pytest.raises(ConfigError, match="min_length must be in"):
        PassiveTMaze(3, min_length=4)


def test_lengths_by_octave_make_short_corridors_as_common_as_long_ones() -> None:
    env = PassiveTMaze(128, min_length=1, lengths="log")
    env.reset(seed=0)
    lengths = np.array([env.reset() and env.length for _ in range(4000)])
    assert lengths.min() == 1 and lengths.max() > 120
    share = [((lengths >= low) & (lengths < 2 * low)).mean() for low in (1, 4, 16, 64)]
    np.testing.assert_allclose(share, np.log(2) / np.log(129), atol=0.02)
    with pytest.raises(ConfigError, match="lengths must be"):
        PassiveTMaze(3, lengths="odd")  # type: ignore[arg-type]


# ---------------------------------------------------------------- endless T-maze


def walk(env: EndlessTMaze, seed: int, remember: str) -> tuple[float, dict[str, Any], int]:
    """Walks and turns by the last cue, or by the very first; returns return, info and steps."""
    obs, _ = env.reset(seed=seed)
    first = cue = obs[2]
    total, steps, done, info = 0.0, 0, False, {}
    while not done:
        cue = obs[2] or cue
        turn = RIGHT if (first if remember == "first" else cue) > 0 else LEFT
        obs, reward, terminated, truncated, info = env.step(turn if obs[1] else FORWARD)
        total, steps, done = total + reward, steps + 1, terminated or truncated
    return total, info, steps


@pytest.mark.parametrize(("corridors", "length"), [(1, 5), (10, 5), (10, 10)])
def test_the_last_cue_leads_through_the_endless_t_maze_and_an_old_one_does_not(
    corridors: int, length: int
) -> None:
    env = EndlessTMaze(corridors, length)
    for seed in range(10):
        total, info, steps = walk(env, seed, "last")
        assert info == {"is_success": True, "corridors": corridors}
        assert total == corridors and steps == corridors * (length + 1)
    if corridors > 1:
        passed = [walk(env, seed, "first")[1]["corridors"] for seed in range(60)]
        assert np.mean(passed) < 3


def test_the_endless_t_maze_ends_at_a_wrong_turn_and_charges_for_delay() -> None:
    env = EndlessTMaze(3, 2)
    obs, _ = env.reset(seed=0)
    assert env.step(STAY)[1] == -0.01 and env.step(LEFT)[1] == -0.01
    env.step(FORWARD)
    at_junction = env.step(FORWARD)[0]
    assert at_junction.tolist() == [1.0, 1.0, 0.0]
    _, reward, terminated, _, info = env.step(LEFT if obs[2] > 0 else RIGHT)
    assert terminated and reward == -1.0 and info == {"is_success": False, "corridors": 0}


def test_the_endless_t_maze_is_cut_when_nobody_walks() -> None:
    env = EndlessTMaze(2, 3)
    env.reset(seed=0)
    steps = [env.step(STAY)[2:4] for _ in range(6 * 4 * 2)]
    assert steps[-1] == (False, True) and not any(cut for _, cut in steps[:-1])


def test_corridors_of_many_lengths() -> None:
    total, info, steps = walk(EndlessTMaze(30, 8, min_length=2), 1, "last")
    assert info["is_success"] and total == 30 and 30 * 3 < steps < 30 * 9


# ---------------------------------------------------------------- dark key-to-door


def go(env: DarkKeyToDoor, target: tuple[int, int]) -> list[tuple]:
    """Walks from where the agent is to a cell; returns what the steps returned."""
    out = []
    while env._cell != target and not env._over:
        step = tuple(
            np.sign(np.subtract(target, env._cell)) * ([1, 0] if env._cell[0] != target[0] else [0, 1])
        )
        out.append(env.step(MOVES.index(step)))
    return out


def room(start: tuple[int, int], key: tuple[int, int], door: tuple[int, int], **kwargs: Any) -> DarkKeyToDoor:
    env = DarkKeyToDoor(**kwargs)
    env.reset(seed=0)
    env.start, env.key, env.door = start, key, door
    env._begin_inner()
    return env


def test_key_then_door_pays_twice_and_the_next_call_leads_back() -> None:
    env = room((0, 0), (2, 1), (5, 5))
    steps = go(env, (2, 1))
    assert [s[1] for s in steps] == [0, 0, 1] and steps[-1][0]["status"][0] == 1
    steps = go(env, (5, 5))
    assert [s[1] for s in steps] == [0.0] * 6 + [1.0] and steps[-1][4] == {"doors": 1, "door": True}
    obs, reward, terminated, _, info = env.step(3)
    assert reward == 0 and not terminated and info == {"doors": 1, "door": False}
    assert obs["inner_start"] == 1 and obs["cell"].tolist() == [0, 0] and obs["status"].tolist() == [0, 0, 0]
    assert env.key == (2, 1) and env.door == (5, 5), "key and door stay for the trial"


def test_the_door_stays_shut_without_the_key() -> None:
    env = room((0, 0), (7, 7), (1, 0))
    assert all(s[1] == 0 for s in go(env, (1, 0))) and not env._over


def test_an_inner_episode_ends_after_its_steps_and_memory_is_told() -> None:
    env = room((3, 3), (7, 7), (0, 0), inner_steps=5)
    starts = [float(env.step(4)[0]["inner_start"][0]) for _ in range(18)]
    assert starts == [0, 0, 0, 0, 0, 1] * 3


def test_one_gymnasium_episode_is_one_trial() -> None:
    env = DarkKeyToDoor(trial_steps=120)
    env.reset(seed=4)
    layout = (env.start, env.key, env.door)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(120)]
    assert ends[-1] == (True, False) and not any(done for done, _ in ends[:-1])
    assert (env.start, env.key, env.door) == layout
    env.reset()
    assert (env.start, env.key, env.door) != layout


def test_the_curriculum_of_the_dark_room_puts_the_cells_of_a_trial_close_together() -> None:
    spreads = []
    for seed in range(200):
        env = DarkKeyToDoor(min_area=2)
        env.reset(seed=seed)
        cells = np.array([env.start, env.key, env.door])
        assert cells.min() >= 0 and cells.max() < 8
        spreads.append(int(np.ptp(cells, axis=0).max()) + 1)
    assert min(spreads) == 1 and max(spreads) == 8, "from one square of 2 to the whole room"
    whole = [DarkKeyToDoor(min_area=8).reset(seed=s)[0]["cell"].tolist() for s in range(40)]
    assert len({tuple(cell) for cell in whole}) > 20
    with pytest.raises(ConfigError, match=r"min_area must be in \[1, 8\]"):
        DarkKeyToDoor(min_area=9)


def test_the_rising_curriculum_of_the_dark_room_ends_in_the_whole_room() -> None:
    spreads = np.zeros((60, 40), np.int64)
    for seed in range(60):
        env = DarkKeyToDoor(min_area=2, area_trials=30)
        for trial in range(40):
            env.reset(seed=seed if trial == 0 else None)
            cells = np.array([env.start, env.key, env.door])
            spreads[seed, trial] = np.ptp(cells, axis=0).max() + 1
    assert spreads[:, :5].max() <= 4, "squares of 2 to 4 at first"
    assert 4 < spreads[:, 12:18].max() <= 7
    assert spreads[:, 30:].max() == 8
    whole = [np.ptp(np.random.default_rng(s).integers(8, size=(3, 2)), axis=0).max() + 1 for s in range(600)]
    assert abs(spreads[:, 30:].mean() - np.mean(whole)) < 0.25, "as in a room without a curriculum"
    with pytest.raises(ConfigError, match="needs min_area"):
        DarkKeyToDoor(area_trials=30)


def test_a_staggered_dark_room_begins_within_a_trial_and_then_plays_whole_ones() -> None:
    lengths = []
    for seed in range(20):
        env = DarkKeyToDoor(trial_steps=60, stagger=True)
        env.reset(seed=seed)
        for _ in range(2):
            steps, done = 0, False
            while not done:
                done = env.step(4)[2]
                steps += 1
            lengths.append(steps)
            env.reset()
    assert len(set(lengths[::2])) > 10 and max(lengths[::2]) <= 60, "drawn"
    assert set(lengths[1::2]) == {60}


def test_lessons_of_the_dark_room_are_in_the_reward_and_nowhere_in_sight() -> None:
    plain, taught = room((3, 3), (5, 3), (5, 5)), room((3, 3), (5, 3), (5, 5))
    taught.progress, taught.novelty, taught._seen = 0.1, 0.01, {(3, 3)}
    found = []
    for action in (3, 1, 3, 3, 2, 2):  # right, left, right, right to the key, ahead, ahead to the door
        (one, reward, _, _, info), (two, lesson, *_) = plain.step(action), taught.step(action)
        assert all(np.array_equal(one[key], two[key]) for key in one)
        found.append(lesson - reward)
    assert np.allclose(found, [0.11, -0.1, 0.1, 0.11, 0.11, 0.1]), "(4, 3) is new only once, the door ends it"
    assert info["doors"] == 1
    taught.step(0)  # back to the start
    assert np.isclose(taught.step(1)[1], -0.1), "nothing is new after the first door"


def test_the_dark_room_shows_neither_key_nor_door() -> None:
    one, two = room((3, 3), (7, 7), (0, 0)), room((3, 3), (0, 6), (6, 0))
    for action in (0, 1, 4, 2, 3):
        a, b = one.step(action)[0], two.step(action)[0]
        assert all(np.array_equal(a[k], b[k]) for k in a)
    assert a["place_id"] == a["cell"][1] * 8 + a["cell"][0]


def test_someone_who_knows_the_room_opens_many_doors_in_a_trial() -> None:
    env = DarkKeyToDoor()
    env.reset(seed=3)
    doors, done = 0, False
    while not done:
        target = env.door if env._has_key else env.key
        step = tuple(
            np.sign(np.subtract(target, env._cell)) * ([1, 0] if env._cell[0] != target[0] else [0, 1])
        )
        _, _, done, _, info = env.step(MOVES.index(step))
        doors = info["doors"]
    assert doors >= 20


@pytest.mark.parametrize("kwargs", [{"size": 1}, {"inner_steps": 0}, {"trial_steps": 0}])
def test_a_room_that_cannot_be_is_refused(kwargs: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        DarkKeyToDoor(**kwargs)


# ---------------------------------------------------------------- MiniGrid memory


def test_the_memory_room_has_the_published_view_and_actions() -> None:
    env = MemoryRoom()
    obs, _ = env.reset(seed=2)
    assert obs["view"].shape == (3, 3, 3) and env.action_space.n == 3
    assert env.grid_env.width == 9 and env.grid_env.max_steps == 96
    i, j = env.grid_env.agent_pos
    assert obs["place_id"] == j * 9 + i


def test_the_right_object_of_the_memory_room_is_success_and_the_wrong_one_is_not() -> None:
    for seed in range(4):
        for right in (True, False):
            env = gymnasium.make("EmbodiedMem/MemoryS9-v0", disable_env_checker=True)
            env.reset(seed=seed)
            grid = env.unwrapped.grid_env
            target = grid.success_pos if right else grid.failure_pos
            actions = [2] * (target[0] - grid.agent_pos[0])  # along the hallway, facing right
            actions += [0 if target[1] < grid.agent_pos[1] else 1]
            actions += [2] * abs(int(target[1] - grid.agent_pos[1]))
            for action in actions:
                _, reward, terminated, truncated, info = env.step(action)
            assert terminated and not truncated
            assert info["is_success"] == right and (reward > 0) == right


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_training_config_makes_a_model_that_runs(path: Path) -> None:
    config = load_config(TrainConfig, path)
    agent = make_model(replace(config, n_envs=2, ppo=replace(config.ppo, n_steps=6, warmup=0.0)))
    agent.learn(12)
    assert agent.num_timesteps >= 12
    if isinstance(agent, MemoPPO):  # others' algorithms do not say
        assert agent.first_ratio_error < 1e-4
    agent.get_env().close()


def test_a_checkpoint_is_evaluated_beyond_its_horizon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(
        env="EmbodiedMem/DarkKeyToDoor-v0", env_kwargs={"trial_steps": 30}, n_envs=2, total_steps=40,
        policy=PolicyConfig(width=16, heads=2), ppo=PPOConfig(n_steps=20),
    )  # fmt: skip
    agent = make_model(config).learn(40)
    agent.export(tmp_path / "out", env_id=config.env, env_kwargs=config.env_kwargs)
    assert evaluate(tmp_path / "out", episodes=2, horizon=("1x", "4x"), json=True) == 0
    results = json.loads(capsys.readouterr().out)
    assert [r["env_kwargs"]["trial_steps"] for r in results] == [30, 120]
    assert all("doors" in r["counts"] for r in results)
    evaluate(tmp_path / "out", episodes=2, horizon=("2x",))
    assert capsys.readouterr().out.startswith("2x EmbodiedMem/DarkKeyToDoor-v0: return")
    with pytest.raises(InputError, match="multiples such as 1x"):
        evaluate(tmp_path / "out", horizon=("half",))
    assert lengthened("EmbodiedMem/EndlessTMaze-v0", {}, 3) == {"corridors": 30}
    with pytest.raises(ConfigError, match="has no length"):
        lengthened("EmbodiedMem/MemoryS9-v0", {}, 2)


def test_environments_side_by_side_tell_what_stable_baselines_would() -> None:
    def make() -> gymnasium.Env:
        return gymnasium.make("EmbodiedMem/EndlessTMaze-v0", corridors=2, length=2, disable_env_checker=True)

    ours, theirs = TaskVecEnv(make, 3, 5), make_vec_env(make, 3, seed=5)
    assert np.array_equal(ours.reset(), theirs.reset())
    rng, episodes = np.random.default_rng(0), 0
    for _ in range(200):
        actions = rng.integers(4, size=3)
        (obs, rewards, dones, infos), expected = ours.step(actions), theirs.step(actions)
        for mine, other in zip((obs, rewards, dones), expected[:3]):
            assert np.array_equal(mine, other)
        for info, other in zip(infos, expected[3]):
            assert ("episode" in info) == ("episode" in other)
            if "episode" in info:
                episodes += 1
                assert info["episode"]["r"] == pytest.approx(other["episode"]["r"], abs=1e-5)
                assert info["episode"]["l"] == other["episode"]["l"]
                assert info["TimeLimit.truncated"] == other["TimeLimit.truncated"]
                assert np.array_equal(info["terminal_observation"], other["terminal_observation"])
    assert episodes > 10


# ---------------------------------------------------------------- Color-Cubes


def walk_to(env: ColorCubes, here: np.ndarray, there: np.ndarray) -> list[int]:
    """Moves from one cell (x, y) to another."""
    dx, dy = (int(b) - int(a) for a, b in zip(here, there))
    return [3 if dx > 0 else 1] * abs(dx) + [2 if dy > 0 else 0] * abs(dy)


@pytest.mark.parametrize("jumps", [0.0, 0.3])
def test_who_revises_the_map_finds_every_cube_and_who_keeps_the_first_does_not(jumps: float) -> None:
    env, success = ColorCubes(targets=4, jumps=jumps), {"revised": 0, "first": 0}
    for memory in success:
        for seed in range(60):
            obs, _ = env.reset(seed=seed)
            known, done, info = obs["cubes"][:, :2] * env.size, False, {}
            while not done:
                there = known[obs["target"][0]].round()
                moves = walk_to(env, obs["cell"], there)
                obs, _, terminated, truncated, info = env.step(moves[0] if moves else TOUCH)
                if memory == "revised" and obs["cubes"][0, 2]:
                    known = obs["cubes"][:, :2] * env.size
                done = terminated or truncated
            success[memory] += info["is_success"]
    assert success["revised"] == 60
    assert success["first"] == 60 if jumps == 0.0 else success["first"] < 30


def test_cubes_are_shown_at_the_start_and_when_one_jumped_and_the_wanted_one_never_jumps() -> None:
    env = ColorCubes(targets=3, jumps=0.2)
    obs, _ = env.reset(seed=1)
    assert obs["cubes"][:, 2].all()
    before, shown = env._where.copy(), 0
    for _ in range(200):
        target = int(obs["target"][0])
        obs, reward, _, truncated, _ = env.step(0)
        moved = np.flatnonzero(env._where != before)
        assert len(moved) <= 1 and target not in moved and reward == pytest.approx(-0.01)
        assert len(set(env._where.tolist())) == env.cubes
        if len(moved):
            assert obs["cubes"][:, 2].all()
        shown += bool(obs["cubes"][:, 2].any())
        assert truncated == (env._steps >= env.max_steps)
        before = env._where.copy()
    assert 20 < shown < 60


def test_progress_pays_every_cell_nearer_to_the_wanted_cube_and_takes_it_back() -> None:
    env = ColorCubes(progress=0.1)
    for seed in range(10):
        obs, _ = env.reset(seed=seed)
        start, there = obs["cell"], (obs["cubes"][obs["target"][0], :2] * env.size).round()
        way = walk_to(env, start, there)
        for action in way:
            obs, reward, _, _, _ = env.step(action)
            assert reward == pytest.approx(0.1 - 0.01)
        back = [(action + 2) % 4 for action in way[::-1]]
        assert sum(env.step(action)[1] for action in back) == pytest.approx(-0.11 * len(way))


def test_where_a_wrong_touch_is_forgiven_the_search_goes_on_for_the_same_cube() -> None:
    env = ColorCubes(targets=2, wrong=0.02)
    obs, _ = env.reset(seed=0)
    first, there = int(obs["target"][0]), (obs["cubes"][obs["target"][0], :2] * env.size).round()
    for _ in range(3):
        obs, reward, terminated, _, _ = env.step(TOUCH)
        assert reward == pytest.approx(-0.03) and not terminated and obs["target"][0] == first
    for action in walk_to(env, obs["cell"], there):
        env.step(action)
    obs, reward, terminated, _, _ = env.step(TOUCH)
    assert reward == pytest.approx(0.99) and not terminated and obs["target"][0] != first


def test_wrong_touches_cost_more_and_more_until_one_ends_the_search_and_resuming_goes_on_with_that() -> None:
    env = ColorCubes(targets=20, wrong=0.01, strict_after=4)
    env.reset(seed=0)
    paid = [env.step(TOUCH)[1:3] for _ in range(4)]
    assert [reward + 0.01 for reward, _ in paid] == pytest.approx(
        [-(0.01**share) for share in (0.75, 0.5, 0.25, 0)]
    )
    assert [over for _, over in paid] == [False, False, False, True]
    env.reset()
    assert env.step(TOUCH)[2]  # an environment's steps, not an episode's
    env.reset(seed=0)
    assert not env.step(TOUCH)[2]
    env.reset(seed=0, options={"steps_before": 4})
    assert env.step(TOUCH)[2]


def test_searches_of_a_curriculum_end_after_one_to_all_of_the_cubes_and_are_as_long_as_that_takes() -> None:
    env, wanted = ColorCubes(targets=3, min_targets=1), []
    for seed in range(90):
        obs, _ = env.reset(seed=seed)
        known, found, over, info = obs["cubes"][:, :2] * env.size, 0, False, {}
        while not over:
            moves = walk_to(env, obs["cell"], known[obs["target"][0]].round())
            obs, _, over, _, info = env.step(moves[0] if moves else TOUCH)
            found += not moves
        assert info["is_success"] and info["found"] == found
        wanted.append(found)
        env.reset(seed=seed)
        assert [env.step(0)[3] for _ in range(20 * found)].index(True) == 20 * found - 1
    assert min(np.bincount(wanted, minlength=4)[1:]) > 20 and max(wanted) == 3


def test_a_wrong_touch_ends_the_search() -> None:
    env = ColorCubes()
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(TOUCH)
    assert terminated and reward == pytest.approx(-1.01) and not info["is_success"]
    for kwargs in (
        {"size": 1},
        {"cubes": 25},
        {"targets": 0},
        {"jumps": 2.0},
        {"wrong": 0.0},
        {"strict_after": 5},
        {"min_targets": 2},
        {"targets": 3, "min_targets": 0},
    ):
        with pytest.raises(ConfigError):
            ColorCubes(**kwargs)  # type: ignore[arg-type]
