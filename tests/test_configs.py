from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from embodied_mem.configs import from_mapping, load_config, save_config, to_mapping
from embodied_mem.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    size: int = 1
    rate: float = 0.5
    lo_hi: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Outer:
    name: str = "a"
    mode: Literal["fast", "slow"] = "fast"
    limit: int | None = None
    words: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)


def test_a_saved_config_loads_back_equal(tmp_path: Path):
    config = Outer(name="b", limit=3, words=("x", "y"), inner=Inner(size=2, lo_hi=(-1.0, 2.0)))
    save_config(config, tmp_path / "c.yaml")
    assert load_config(Outer, tmp_path / "c.yaml") == config


def test_an_unknown_key_names_the_nearest_valid_one():
    with pytest.raises(ConfigError, match=r'unknown key "inner\.sise"; did you mean "size"\?'):
        from_mapping(Outer, {"inner": {"sise": 3}})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inner": {"size": "big"}}, "inner.size must be of type int"),
        ({"inner": {"size": True}}, "inner.size must be of type int"),
        ({"mode": "medium"}, "mode must be one of fast, slow"),
        ({"inner": {"lo_hi": [1.0]}}, "inner.lo_hi must hold 2 values"),
        ({"inner": 3}, "inner must be a mapping"),
        ({"limit": "three"}, "limit must be of type int"),
    ],
)
def test_a_wrong_value_says_which_key_and_what_it_must_be(values: dict, words: str):
    with pytest.raises(ConfigError, match=words):
        from_mapping(Outer, values)


def test_yaml_exponents_without_a_dot_are_numbers(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("rate: 3e-4\n")
    assert load_config(Inner, tmp_path / "c.yaml").rate == pytest.approx(3e-4)


@pytest.mark.parametrize("text", ["a: [1", "\x00", "just words"])
def test_a_file_that_is_no_config_gives_one_line(tmp_path: Path, text: str):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(Outer, tmp_path / "c.yaml")
    assert "\n" not in str(error.value)


def test_a_missing_file_gives_one_line(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read the config"):
        load_config(Outer, tmp_path / "none.yaml")


def test_mapping_holds_plain_values_only():
    assert to_mapping(Outer())["inner"]["lo_hi"] == [0.0, 1.0]
