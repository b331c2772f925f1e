"""Where trials are found: one file, a clone, an archive; and what is refused."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bench.errors import UserError
from bench.observers import Trials, load, sources
from bench.observers.trials import parse

HEAD = "subj,session,trial,rt,object_response,category,condition,imagename\n"
FIRST = HEAD + "subject-01,1,1,0.5,cat,cat,0.10,0001_nse_s01_0.10_cat_1.png\n"
SECOND = HEAD + "subject-02,1,1,0.5,na,dog,0.10,0001_nse_s02_0.10_dog_2.png\n"
LAYOUT = {
    "raw-data/humans/noise-experiment/noise-experiment_subject-01_session_1.csv": FIRST,
    "raw-data/humans/noise-experiment/noise-experiment_subject-02_session_1.csv": SECOND,
    "raw-data/humans/README.md": "not trials",
    "raw-data/TF/noise-experiment/noise-experiment_subject-01_session_1.csv": FIRST,
    "raw-data/TF/noise-experiment/noise-experiment_vgg19_session_1.csv": FIRST.replace(
        "subject-01", "vgg19"
    ),
}


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collections of two trials and one, and a cache of one's own."""
    monkeypatch.setenv("TILTYARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TILTYARD_OFFLINE", "1")
    monkeypatch.delenv("TILTYARD_DATA", raising=False)
    humans = parse([(FIRST, "noise"), (SECOND, "noise")], source="t")[1]
    networks = parse([(FIRST.replace("subject-01", "vgg19"), "noise")], source="t")[1]
    changed = dict(sources.SOURCES)
    changed["humans"] = replace(changed["humans"], fingerprint=humans, trials=2)
    changed["networks"] = replace(changed["networks"], fingerprint=networks, trials=1)
    monkeypatch.setattr(sources, "SOURCES", changed)


def written(folder: Path) -> Path:
    for name, text in LAYOUT.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def check(trials: Trials) -> None:
    assert trials.observer.texts().tolist() == ["subject-01", "subject-02"]
    assert trials.experiment.names == ("noise",)
    assert trials.condition.names == ("0.1",)
    assert trials.correct.tolist() == [True, False]


def test_a_clone_of_the_repository_is_read(tmp_path: Path) -> None:
    check(load("humans", written(tmp_path / "clone")))


def test_copies_of_human_files_among_the_networks_are_left_out(tmp_path: Path) -> None:
    assert load("networks", written(tmp_path / "clone")).observer.names == ("vgg19",)


def archived(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in LAYOUT.items():
            archive.writestr(f"generalisation-humans-DNNs-master/{name}", text)
    return path


def test_an_archive_of_the_repository_is_read(tmp_path: Path) -> None:
    archived(tmp_path / "generalisation-humans-DNNs.zip")
    check(load("humans", tmp_path))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served in GitHub's place."""
    folder = tmp_path / "github"
    folder.mkdir()
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(sources, "ARCHIVE", address + "/{repository}/zip/refs/heads/master")
        monkeypatch.delenv("TILTYARD_OFFLINE")
        yield folder
        server.shutdown()
        thread.join()


def test_the_archive_is_downloaded_where_nothing_is_here_and_kept(
    github: Path, tmp_path: Path
) -> None:
    served = archived(github / "rgeirhos/generalisation-humans-DNNs/zip/refs/heads/master")
    check(load("humans"))
    served.unlink()
    assert load("networks").observer.names == ("vgg19",)  # from the archive that lies in the cache
    assert (tmp_path / "cache/datasets/geirhos2018/generalisation-humans-DNNs.zip").is_file()


def test_a_download_that_fails_says_where_to_put_the_archive(github: Path) -> None:
    assert not list(github.iterdir())
    with pytest.raises(UserError, match=r"404.*put it at .*generalisation-humans-DNNs\.zip"):
        load("humans")


def test_a_clone_of_the_other_repository_is_not_taken_for_the_wanted_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no copy of https://github.com/bethgelab/model-vs-human"):
        load("model-vs-human", written(tmp_path / "clone"))


def test_one_file_with_all_experiments_is_read_and_kept_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data" / "geirhos2018"
    data.mkdir(parents=True)
    rows = [line for text in (FIRST, SECOND) for line in text.splitlines()[1:]]
    text = f"experiment,{HEAD}" + "".join(f"noise,{row}\n" for row in rows)
    with gzip.open(data / "geirhos2018-human-trials.csv.gz", "wt") as file:
        file.write(text)
    monkeypatch.setenv("TILTYARD_DATA", str(tmp_path / "data"))
    check(load("humans"))
    monkeypatch.delenv("TILTYARD_DATA")
    check(load("humans"))  # from the cache
    kept = next((tmp_path / "cache").rglob("humans-*.npz"))
    kept.write_bytes(b"damaged")
    with pytest.raises(UserError, match="TILTYARD_OFFLINE"):
        load("humans")


def test_trials_that_are_not_here_say_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="github.com/rgeirhos/generalisation-humans-DNNs"):
        load("humans", tmp_path)
    with pytest.raises(UserError, match="put it at"):
        load("humans")


def test_other_trials_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "clone")
    path = next(folder.rglob("humans/*/*subject-02*"))
    path.write_text(SECOND.replace(",na,", ",dog,"))
    with pytest.raises(UserError, match="holds 2 trials with fingerprint .*; wanted the 2"):
        load("humans", folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has no column 'subj'; it has a, b"),
        (HEAD + "subject-01,1,1\n", "a row that is cut off; wanted 8 values"),
        (HEAD, "holds no trials"),
        (HEAD + "\n\n", "holds no trials"),
    ],
)
def test_damaged_csv_is_named(tmp_path: Path, text: str, message: str) -> None:
    folder = written(tmp_path / "clone")
    for path in folder.rglob("humans/*/*.csv"):
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        load("humans", folder)


def _bent(data: bytes) -> bytes:
    """A byte of the compressed text that says an unknown kind of block."""
    return data[:10] + b"\xff" + data[11:]


@pytest.mark.parametrize(
    "data",
    [b"\x1f\x8bnothing", gzip.compress(FIRST.encode())[:-9], _bent(gzip.compress(b"a" * 99))],
    ids=["no gzip", "cut off", "bent"],
)
def test_a_damaged_archive_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "geirhos2018-human-trials.csv.gz").write_bytes(data)
    with pytest.raises(UserError, match=r"can't read .*csv\.gz"):
        load("humans", tmp_path)
