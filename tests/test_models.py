from __future__ import annotations

from pathlib import Path

import pytest

from embodied_mem.verbs.evaluate import evaluate_checkpoint

MODELS = Path(__file__).parents[1] / "models"
CHECKPOINTS = sorted(path.parent for path in MODELS.glob("*/model.safetensors"))


def test_the_shipped_proof_of_memory_policy_remembers():
    result = evaluate_checkpoint(MODELS / "proof_of_memory", episodes=100)
    assert result["success"] == 1.0


def test_the_shipped_t_maze_policy_remembers_beyond_the_longest_corridor_it_was_trained_on():
    result = evaluate_checkpoint(MODELS / "passive_tmaze", episodes=20, factor=2)
    assert result["env_kwargs"]["length"] == 256 and result["steps"]["mean"] == 257
    assert result["success"] == 1.0


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
def test_every_shipped_model_is_small_and_its_card_says_how_it_was_made(checkpoint: Path):
    assert sum(path.stat().st_size for path in checkpoint.iterdir()) < 10e6
    card = (checkpoint / "README.md").read_text()
    assert "embodied-mem train" in card and "seed" in card and "interval" in card
    assert (checkpoint / "curve.csv").exists()
