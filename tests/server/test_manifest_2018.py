"""Folders in the layout of 2018: crowdai.json and run.sh, nothing of ours."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from bench import plugins
from bench.errors import UserError
from server import manifest_2018, packaging
from server.manifest import read_manifest

MODEL = "nips-2018-avc-robust-model-track"
ATTACK = "nips-2018-avc-untargeted-attack"
TARGETED = "nips-2018-avc-targeted-attack"
TRACK = "mnist5k-untargeted-attack"


def folder(place: Path, challenge: object = ATTACK, **files: str) -> Path:
    """A submission as it was in 2018."""
    made = place / "My_Attack"
    made.mkdir()
    (made / "crowdai.json").write_text(json.dumps({"challenge_id": challenge, "authors": []}))
    (made / "run.sh").write_text("#!/bin/bash\npython main.py\n")
    (made / "main.py").write_text("print('hello')\n")
    for name, text in files.items():
        (made / name.replace("_", ".")).write_text(text)
    return made


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """One track a kind on the images of 2018."""
    made = {
        track.name.replace("mnist5k", "tiny"): replace(
            track, name=track.name.replace("mnist5k", "tiny"), dataset=manifest_2018.DATASET
        )
        for track in plugins.tracks()
        if track.dataset == "mnist5k"
    }
    monkeypatch.setattr(plugins, "tracks", lambda: list(made.values()))
    monkeypatch.setattr(plugins, "load_track", made.__getitem__)


@pytest.mark.parametrize(
    ("challenge", "kind", "track"),
    [
        (MODEL, "model", "tiny-robust-model"),
        (ATTACK, "untargeted-attack", "tiny-untargeted-attack"),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_a_challenge_of_2018_is_a_kind_and_a_track_of_ours(
    tmp_path: Path, challenge: str, kind: str, track: str
) -> None:
    manifest = read_manifest(folder(tmp_path, challenge))
    assert (manifest.kind, manifest.track) == (kind, track)
    assert manifest.name == "my-attack"
    assert manifest.command == ("bash", "run.sh")
    assert manifest.of_2018


def test_every_challenge_of_2018_has_a_kind(tmp_path: Path) -> None:
    assert manifest_2018.kind(folder(tmp_path, TARGETED)) == "targeted-attack"


def test_a_track_may_be_named_instead(tmp_path: Path) -> None:
    assert read_manifest(folder(tmp_path), TRACK).track == TRACK


def test_a_named_track_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes kind = 'model', got 'untargeted-attack'"):
        read_manifest(folder(tmp_path), "mnist5k-robust-model")


def test_where_no_track_has_the_images_of_2018_it_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [track for track in plugins.tracks() if track.dataset != manifest_2018.DATASET]
    monkeypatch.setattr(plugins, "tracks", lambda: others)
    with pytest.raises(UserError, match=f"say which with --track: .*{TRACK}"):
        read_manifest(folder(tmp_path))


@pytest.mark.parametrize("challenge", ["nips-2019", 3, None])
def test_an_unknown_challenge_is_refused_with_those_that_there_are(
    tmp_path: Path, challenge: object
) -> None:
    with pytest.raises(UserError, match=f"challenge_id is .*; wanted one of {MODEL}, "):
        read_manifest(folder(tmp_path, challenge))


@pytest.mark.parametrize("text", ["{", "[1]", '"text"'])
def test_a_damaged_crowdai_json_is_named(tmp_path: Path, text: str) -> None:
    made = folder(tmp_path)
    (made / "crowdai.json").write_text(text)
    with pytest.raises(UserError, match=r"crowdai\.json"):
        read_manifest(made)


def test_without_run_sh_it_is_no_submission(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (made / "run.sh").unlink()
    with pytest.raises(UserError, match=r"no run\.sh; run\.sh starts the submission"):
        read_manifest(made)


def test_our_own_manifest_comes_first(tmp_path: Path) -> None:
    made = folder(tmp_path)
    (made / "tiltyard.toml").write_text(
        f'[submission]\nkind = "untargeted-attack"\nname = "new"\ntrack = "{TRACK}"\n'
        'command = ["python3", "main.py"]\n'
    )
    assert read_manifest(made).name == "new"


def test_its_package_holds_its_files_the_command_and_no_kit(tmp_path: Path) -> None:
    made = folder(tmp_path)
    package = packaging.source_package(made, tmp_path / "package.tar.gz", TRACK)
    with tarfile.open(package) as archive:
        names = archive.getnames()
        config = archive.extractfile("tiltyard.toml")
        assert config is not None
        assert config.read() == b'[submission]\ncommand = ["bash", "run.sh"]\n'
    assert names == ["crowdai.json", "main.py", "run.sh", "tiltyard.toml"]
    assert not (made / "tiltyard.toml").exists()


def test_a_dockerfile_without_a_command_starts_run_sh(tmp_path: Path) -> None:
    made = folder(tmp_path, Dockerfile="FROM debian\nCOPY . /home/crowdai\n")
    files = packaging.submission_files(read_manifest(made, TRACK))
    content = files["Dockerfile"]
    assert isinstance(content, bytes)
    assert content.endswith(b'COPY . /home/crowdai\nCMD ["bash", "run.sh"]\n')


@pytest.mark.parametrize("line", ['CMD ["python", "main.py"]', '  entrypoint ["bash"]'])
def test_a_dockerfile_with_a_command_is_left_alone(line: str) -> None:
    text = f"FROM debian\n{line}\n".encode()
    assert manifest_2018.with_command(text) == text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("environment_yml", "conda env update --name base --file environment.yml"),
        ("requirements_txt", "pip install --requirement requirements.txt"),
        ("apt_txt", "pip install --requirement requirements.txt"),
    ],
)
def test_without_a_dockerfile_the_five_lines_to_write_are_shown(
    tmp_path: Path, name: str, words: str
) -> None:
    made = folder(tmp_path, **{name: "numpy\n"})
    with pytest.raises(UserError, match="not built here") as caught:
        packaging.build_image(made, track=TRACK)
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 5
    assert f"RUN {words}" in lines
    assert lines[-1] == 'CMD ["bash", "run.sh"]'
