"""server/settings.py: read once, frozen, mistakes named."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from bench.errors import UserError
from server import settings


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILTYARD_WORKERS", "3")
    monkeypatch.setenv("TILTYARD_PORT", "9000")
    found = settings.load(workers=5, port=None)
    assert (found.workers, found.port, found.sandbox) == (5, 9000, "docker")


def test_folders_are_absolute_and_default_to_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = settings.load(data_dir="here")
    assert found.data_dir == tmp_path / "here"
    assert found.artefacts == tmp_path / "here" / "artefacts"
    assert found.url == f"sqlite:///{tmp_path / 'here' / 'tiltyard.db'}"


def test_a_folder_that_is_too_long_for_sockets_is_not_used_for_them() -> None:
    assert settings.load(data_dir="/srv/tiltyard").sockets == Path("/srv/tiltyard/sockets")
    assert settings.load(data_dir="/srv/" + "long/" * 20).sockets is None
    assert settings.load(data_dir="/x", sockets_dir="/run/t").sockets == Path("/run/t")


@pytest.mark.parametrize(
    ("name", "value"),
    [("workers", -1), ("sandbox", "none"), ("port", "http"), ("lease_seconds", 0)],
)
def test_a_bad_setting_is_named_with_its_value(name: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"setting {name}: .* \(got {value!r}\)"):
        settings.load(**{name: value})


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UserError, match="setting wokers"):
        settings.load(wokers=1)


def test_settings_do_not_change() -> None:
    found = settings.load()
    with pytest.raises(ValidationError, match="frozen"):
        found.workers = 2
