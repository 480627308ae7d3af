"""A data folder has one seed: the fates of its orders do not change afterwards."""

from pathlib import Path

import pytest

from pavane.demo.seed import DEFAULT, OtherSeed, remember, seed_of


def test_a_new_folder_takes_the_wanted_seed_or_the_default(tmp_path: Path) -> None:
    assert seed_of(tmp_path, 42) == 42
    assert seed_of(tmp_path, None) == DEFAULT


def test_a_folder_keeps_its_seed(tmp_path: Path) -> None:
    remember(tmp_path, 0)

    assert seed_of(tmp_path, None) == 0
    assert seed_of(tmp_path, 0) == 0
    with pytest.raises(OtherSeed, match="chosen by seed 0; seed 5"):
        seed_of(tmp_path, 5)
