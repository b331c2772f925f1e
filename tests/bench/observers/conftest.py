"""The published trials, each collection read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.observers import Trials, load


@pytest.fixture(scope="session")
def humans(shared_data: Path) -> Trials:
    return load("humans", shared_data)


@pytest.fixture(scope="session")
def networks(shared_data: Path) -> Trials:
    return load("networks", shared_data)


@pytest.fixture(scope="session")
def trained_networks(shared_data: Path) -> Trials:
    return load("trained-networks", shared_data)


@pytest.fixture(scope="session")
def model_vs_human(shared_data: Path) -> Trials:
    return load("model-vs-human", shared_data)
