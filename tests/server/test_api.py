"""The API as a client sees it: uploads, submissions, boards, problems, who may see what."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from httpx import Client
from sqlalchemy import func, select, update

from bench.tracks.types import Track
from server import errors, jobs, quota
from server import settings as server_settings
from server.app import create_app
from server.db.engine import Database
from server.db.tables import Event, Job, QuotaDay, QuotaLedger, SampleResult, Submission, Upload
from server.storage import Store

MODELS, ATTACKS = "mnist5k-robust-model", "mnist5k-untargeted-attack"
PACKAGE = gzip.compress(b"a folder")


@pytest.fixture
def app(tmp_path: Path, sqlite: Database, tracks: dict[str, Track]) -> FastAPI:
    """The application on the world's database, without a worker."""
    made = create_app(
        server_settings.load(
            data_dir=tmp_path / "data",
            database_url=sqlite.url.render_as_string(),
            workers=0,
            sandbox="process",
            baselines="none",
            poll_seconds=0.05,
        )
    )
    made.add_api_route("/api/v1/crash", _crash)
    return made


def _crash() -> None:
    raise RuntimeError("a secret of ours")


@pytest.fixture
def address(app: FastAPI, serve: Callable[[FastAPI], str]) -> str:
    """The application behind a real socket."""
    return serve(app)


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(base_url=address) as made:
        yield made


@pytest.fixture
def ada(world: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {world.token('ada')}"}


@pytest.fixture
def bob(world: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {world.token('bob')}"}


@pytest.fixture
def operator(world: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {world.token('root', 'operate', 'operator')}"}


def checksum(data: bytes) -> str:
    return "sha256 " + base64.b64encode(hashlib.sha256(data).digest()).decode()


def start(client: Client, who: dict[str, str], length: int) -> str:
    answer = client.post("/api/v1/uploads", headers=who | {"Upload-Length": str(length)})
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def patch(
    client: Client, who: dict[str, str], place: str, offset: int, data: bytes, **more: str
) -> httpx.Response:
    headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return client.patch(place, headers=who | headers | more, content=data)


def upload(client: Client, who: dict[str, str], data: bytes = PACKAGE) -> str:
    place = start(client, who, len(data))
    assert patch(client, who, place, 0, data).status_code == 204
    return place.rpartition("/")[2]


def submit(
    client: Client, who: dict[str, str], place: str, track: str = MODELS, **more: str
) -> httpx.Response:
    body = {"track": track, "name": "mine", "upload": place}
    return client.post("/api/v1/submissions", headers=who | more, json=body)


def is_problem(answer: httpx.Response, kind: type[errors.ApiError]) -> dict[str, Any]:
    """Check an error's shape, and return it."""
    assert answer.status_code == kind.status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["type"] == errors.TYPE_PREFIX + kind.slug
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["instance"] == answer.request.url.path
    assert problem["status"] == kind.status
    assert problem["title"]
    assert problem["detail"]
    return problem


# uploads


def test_an_upload_that_breaks_off_goes_on_where_it_stopped(
    client: Client, ada: dict[str, str], app: FastAPI
) -> None:
    data = bytes(range(256)) * 100
    place = start(client, ada, len(data))
    first = patch(client, ada, place, 0, data[:1000], **{"Upload-Checksum": checksum(data[:1000])})
    assert (first.status_code, first.headers["upload-offset"]) == (204, "1000")
    assert client.head(place, headers=ada).headers["upload-offset"] == "1000"
    wrong = patch(client, ada, place, 0, data)
    assert is_problem(wrong, errors.Conflict)["detail"].startswith("Upload-Offset is 0, but 1000")
    assert wrong.headers["upload-offset"] == "1000"
    assert patch(client, ada, place, 1000, data[1000:]).status_code == 204
    done = client.get(place, headers=ada).json()
    assert done["sha256"] == hashlib.sha256(data).hexdigest()
    assert Store(app.state.tiltyard.settings.data_dir / "artefacts").get(done["sha256"]) == data
    assert list((app.state.tiltyard.settings.data_dir / "uploads").iterdir()) == []


def test_a_chunk_that_was_changed_on_the_way_is_not_kept(
    client: Client, ada: dict[str, str]
) -> None:
    place = start(client, ada, 10)
    bad = patch(client, ada, place, 0, b"01234", **{"Upload-Checksum": checksum(b"01235")})
    is_problem(bad, errors.ChecksumMismatch)
    assert client.head(place, headers=ada).headers["upload-offset"] == "0"
    good = patch(client, ada, place, 0, b"01234", **{"Upload-Checksum": checksum(b"01234")})
    assert good.status_code == 204


@pytest.mark.parametrize("header", ["md5 AAAA", "sha256 ???", "sha256 AAAA", "sha256"])
def test_a_checksum_that_cannot_be_read_is_refused(
    client: Client, ada: dict[str, str], header: str
) -> None:
    place = start(client, ada, 10)
    answer = patch(client, ada, place, 0, b"0", **{"Upload-Checksum": header})
    assert "base64" in is_problem(answer, errors.BadRequest)["detail"]


def test_more_bytes_than_announced_are_refused_while_they_come(
    client: Client, ada: dict[str, str]
) -> None:
    place = start(client, ada, 10)
    is_problem(patch(client, ada, place, 0, b"0" * 11), errors.TooLarge)
    assert client.head(place, headers=ada).headers["upload-offset"] == "0"


def test_an_upload_that_no_track_takes_is_refused_at_once(
    client: Client, ada: dict[str, str], tracks: dict[str, Track]
) -> None:
    limit = max(track.limits.image_mib for track in tracks.values()) * 2**20
    answer = client.post("/api/v1/uploads", headers=ada | {"Upload-Length": str(limit + 1)})
    is_problem(answer, errors.TooLarge)
    for length in ("0", "-1"):
        answer = client.post("/api/v1/uploads", headers=ada | {"Upload-Length": length})
        is_problem(answer, errors.BadRequest)
    is_problem(client.post("/api/v1/uploads", headers=ada), errors.BadRequest)


def test_a_chunk_of_another_type_is_refused(client: Client, ada: dict[str, str]) -> None:
    place = start(client, ada, 10)
    answer = patch(client, ada, place, 0, b"0", **{"Content-Type": "text/plain"})
    is_problem(answer, errors.WrongMediaType)


def test_two_writers_at_once_are_told_so(client: Client, ada: dict[str, str], app: FastAPI) -> None:
    place = start(client, ada, 10)
    app.state.uploads_in_progress.add(place.rpartition("/")[2])
    is_problem(patch(client, ada, place, 0, b"0"), errors.Locked)


def test_unfinished_uploads_are_few_and_can_be_given_up(
    client: Client, ada: dict[str, str]
) -> None:
    places = [start(client, ada, 10) for _ in range(5)]
    refused = client.post("/api/v1/uploads", headers=ada | {"Upload-Length": "10"})
    assert "DELETE" in is_problem(refused, errors.Conflict)["detail"]
    assert client.delete(places[0], headers=ada).status_code == 204
    is_problem(client.get(places[0], headers=ada), errors.NotFound)
    start(client, ada, 10)


def test_an_upload_is_its_owners_alone(
    client: Client, ada: dict[str, str], bob: dict[str, str], operator: dict[str, str]
) -> None:
    place = start(client, ada, 10)
    is_problem(client.get(place, headers=bob), errors.NotFound)
    is_problem(patch(client, bob, place, 0, b"0"), errors.NotFound)
    is_problem(patch(client, operator, place, 0, b"0"), errors.NotFound)
    is_problem(client.get(place), errors.Unauthorised)
    assert client.get(place, headers=operator).status_code == 200


# submissions


def test_a_submission_is_queued_with_its_quota_and_says_where_it_stands(
    client: Client, ada: dict[str, str], sqlite: Database
) -> None:
    answer = submit(client, ada, upload(client, ada))
    assert answer.status_code == 202
    shown = client.get(answer.headers["Location"], headers=ada).json()
    assert shown == answer.json()
    assert (shown["state"], shown["kind"], shown["position"]) == ("validating", "model", 1)
    assert shown["jobs"][0]["waits_for"] == "a free worker"
    with sqlite.read() as session:
        assert session.scalars(select(QuotaLedger.amount)).all() == [1]
    assert client.get("/api/v1/submissions", headers=ada).json()["items"] == [shown]


def test_the_same_idempotency_key_makes_one_submission(
    client: Client, ada: dict[str, str], bob: dict[str, str], sqlite: Database
) -> None:
    place, key = upload(client, ada), {"Idempotency-Key": "k1"}
    answers = [submit(client, ada, place, **key) for _ in range(3)]
    assert len({answer.headers["Location"] for answer in answers}) == 1
    is_problem(submit(client, ada, place, ATTACKS, **key), errors.Conflict)
    assert submit(client, bob, upload(client, bob), **key).status_code == 202
    with sqlite.read() as session:
        assert session.scalar(select(func.count()).select_from(Submission)) == 2
        assert session.scalar(select(func.sum(QuotaDay.used))) == 2


def test_the_quota_of_the_day_is_the_tracks_and_refuses_without_a_trace(
    client: Client, ada: dict[str, str], tracks: dict[str, Track], sqlite: Database
) -> None:
    place = upload(client, ada)
    limit = tracks[MODELS].limits.submissions_per_day
    for _ in range(limit):
        assert submit(client, ada, place).status_code == 202
    assert f"{limit} submissions" in is_problem(
        submit(client, ada, place), errors.QuotaSpent
    )["detail"]  # fmt: skip
    assert submit(client, ada, place, ATTACKS).status_code == 202
    with sqlite.read() as session:
        assert session.scalar(select(func.count()).select_from(Submission)) == limit + 1
        assert session.scalar(select(func.count()).select_from(Job)) == limit + 1


def test_a_quota_is_refunded_once_when_our_side_failed(world: Any, sqlite: Database) -> None:
    entry = world.entry("model", state="validating")
    for _ in range(2):
        with sqlite.write() as session:
            quota.reserve(session, session.get_one(Submission, world.entry("model")), 10)
    with sqlite.write() as session:
        quota.reserve(session, session.get_one(Submission, entry), 10)
        assert quota.refund(session, entry) is True
        assert quota.refund(session, entry) is False
    with sqlite.read() as session:
        assert session.scalars(select(QuotaDay.used)).all() == [2]
        assert session.scalar(select(func.sum(QuotaLedger.amount))) == 2


def test_what_cannot_be_run_here_is_refused_with_the_mend(
    client: Client, ada: dict[str, str]
) -> None:
    image = upload(client, ada, b"ustar: a docker image")
    assert "source package" in is_problem(submit(client, ada, image), errors.Invalid)["detail"]
    unfinished = start(client, ada, 10).rpartition("/")[2]
    is_problem(submit(client, ada, unfinished), errors.Conflict)
    is_problem(submit(client, ada, "nothing"), errors.NotFound)
    good = upload(client, ada)
    assert MODELS in is_problem(submit(client, ada, good, "chess"), errors.NotFound)["detail"]


def test_a_docker_server_takes_no_source_packages(
    client: Client, ada: dict[str, str], app: FastAPI
) -> None:
    state = app.state.tiltyard
    state.settings = state.settings.model_copy(update={"sandbox": "docker"})
    answer = submit(client, ada, upload(client, ada))
    assert "docker save" in is_problem(answer, errors.Invalid)["detail"]
    assert submit(client, ada, upload(client, ada, b"ustar: a docker image")).status_code == 202


def test_another_ones_upload_cannot_be_submitted(
    client: Client, ada: dict[str, str], bob: dict[str, str]
) -> None:
    is_problem(submit(client, bob, upload(client, ada)), errors.NotFound)


def test_cancelling_twice_is_harmless_and_a_rerun_costs_nothing(
    client: Client, ada: dict[str, str], sqlite: Database
) -> None:
    place = submit(client, ada, upload(client, ada)).headers["Location"]
    for _ in range(2):
        answer = client.post(f"{place}:cancel", headers=ada)
        assert (answer.status_code, answer.json()["state"]) == (202, "rejected")
    answer = client.post(f"{place}:rerun", headers=ada)
    assert (answer.status_code, answer.json()["state"]) == (202, "validating")
    assert [job["state"] for job in answer.json()["jobs"]] == ["cancelled", "queued"]
    is_problem(client.post(f"{place}:rerun", headers=ada), errors.Conflict)
    with sqlite.read() as session:
        assert session.scalars(select(QuotaDay.used)).all() == [1]


def test_an_accepted_submission_is_withdrawn_not_cancelled(
    client: Client, ada: dict[str, str], world: Any
) -> None:
    entry = world.entry("model")
    is_problem(client.post(f"/api/v1/submissions/{entry}:cancel", headers=ada), errors.Conflict)
    for _ in range(2):
        answer = client.post(f"/api/v1/submissions/{entry}:withdraw", headers=ada)
        assert (answer.status_code, answer.json()["state"]) == (202, "withdrawn")
    is_problem(client.get(f"/api/v1/submissions/{entry}"), errors.NotFound)


def test_a_failure_of_the_submission_is_not_run_again_for_its_owner(
    client: Client, ada: dict[str, str], operator: dict[str, str], sqlite: Database
) -> None:
    place = submit(client, ada, upload(client, ada)).headers["Location"]
    with sqlite.write() as session:
        session.execute(update(Job).values(state="failed_user"))
        session.execute(update(Submission).values(state="rejected", reason="exit code 1"))
    answer = client.post(f"{place}:rerun", headers=ada)
    assert "submit a mended version" in is_problem(answer, errors.Conflict)["detail"]
    assert client.post(f"{place}:rerun", headers=operator).status_code == 202


ACTIONS = ("cancel", "withdraw", "rerun")


def test_nobody_touches_or_reads_anothers_submission(
    client: Client, ada: dict[str, str], bob: dict[str, str]
) -> None:
    place = submit(client, ada, upload(client, ada)).headers["Location"]
    for action in ACTIONS:
        is_problem(client.post(f"{place}:{action}", headers=bob), errors.NotFound)
        is_problem(client.post(f"{place}:{action}"), errors.Unauthorised)
    for path in (place, f"{place}/logs"):
        is_problem(client.get(path, headers=bob), errors.NotFound)
    is_problem(client.get(place), errors.NotFound)
    is_problem(client.get(f"{place}/logs"), errors.Unauthorised)
    assert client.get("/api/v1/submissions", headers=bob).json()["items"] == []
    (job,) = client.get("/api/v1/queue", headers=bob).json()["jobs"]
    assert job["submission_name"] == "(not public yet)"
    (job,) = client.get("/api/v1/queue", headers=ada).json()["jobs"]
    assert job["submission_name"] == "mine"


def test_a_token_for_reading_submits_nothing(client: Client, world: Any) -> None:
    reader = {"Authorization": f"Bearer {world.token('ada', 'read')}"}
    answer = client.post("/api/v1/uploads", headers=reader | {"Upload-Length": "1"})
    assert "scope 'read'" in is_problem(answer, errors.Forbidden)["detail"]
    assert client.get("/api/v1/submissions", headers=reader).status_code == 200


@pytest.mark.parametrize("header", ["Bearer", "Basic abc", "Bearer tilt_x_y"])
def test_a_token_that_is_not_good_is_refused_even_where_none_is_needed(
    client: Client, header: str
) -> None:
    answer = client.get("/api/v1/queue", headers={"Authorization": header})
    is_problem(answer, errors.Unauthorised)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_owner_reads_the_logs_piece_by_piece(
    client: Client, ada: dict[str, str], sqlite: Database, app: FastAPI
) -> None:
    place = submit(client, ada, upload(client, ada)).headers["Location"]
    name = app.state.tiltyard.store.put("Traceback: Größe\n".encode())
    with sqlite.write() as session:
        job = jobs.claim(session, owner="w:1", host="h", lease_seconds=60)
        assert job is not None
        jobs.begin(session, job.job_id, job.fence)
        logs = {job.submission_id: name}
        jobs.fail_user(
            session, job.job_id, job.fence, "exit code 1", fault_id=job.submission_id, logs=logs
        )
    first = client.get(f"{place}/logs", headers=ada).json()
    assert first["text"].splitlines()[1] == "Traceback: Größe"
    rest = client.get(f"{place}/logs", params={"after": first["next"]}, headers=ada).json()
    assert rest == {"text": "", "next": first["next"]}


# boards and matches


@pytest.fixture
def played(world: Any) -> dict[str, str]:
    """A model of ada's with a finished match."""
    foe = world.entry("untargeted-attack", "baseline")
    model = world.entry("model")
    world.settle()
    match = world.play(model, foe, [1.0, 2.0, None, 0], sandbox="process")
    return {"model": model, "foe": foe, "match": match}


def test_a_board_is_json_or_csv_of_the_same(client: Client, played: dict[str, str]) -> None:
    board = client.get(f"/api/v1/boards/{MODELS}").json()
    (row,) = board["rows"]
    assert (row["rank"], row["score"], row["isolated"]) == (1, 1.5, False)
    text = client.get(f"/api/v1/boards/{MODELS}", headers={"Accept": "text/csv"})
    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    names, values = (line.split(",") for line in text.text.strip().split("\r\n"))
    shown = dict(zip(names, values, strict=True))
    assert (shown["rank"], shown["score"], shown["isolated"]) == ("1", "1.5", "False")
    assert shown["submission"] == played["model"]


def test_a_board_that_has_not_changed_is_not_sent_again(
    client: Client, played: dict[str, str], world: Any
) -> None:
    path = f"/api/v1/boards/{MODELS}"
    tag = client.get(path).headers["etag"]
    again = client.get(path, headers={"If-None-Match": f'"x", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    csv = client.get(path, headers={"If-None-Match": tag, "Accept": "text/csv"})
    assert csv.status_code == 200
    world.entry("model")
    world.settle()
    changed = client.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_a_name_cannot_be_a_formula_in_the_csv(
    client: Client, played: dict[str, str], sqlite: Database
) -> None:
    with sqlite.write() as session:
        session.execute(update(Submission).values(name="=HYPERLINK(1)"))
    text = client.get(f"/api/v1/boards/{MODELS}", headers={"Accept": "text/csv"}).text
    assert "'=HYPERLINK(1)" in text


def test_a_match_has_its_curves_and_its_samples(client: Client, played: dict[str, str]) -> None:
    match = client.get(f"/api/v1/matches/{played['match']}").json()
    assert match["summary"]["n"] == 4
    assert match["summary"]["median_distance"] == 1.5
    assert match["summary"]["interval"] is None, "infinite: too many failures among the resamples"
    assert match["accuracy_curve"] == [
        {"x": 0.0, "y": 0.75},
        {"x": 1.0, "y": 0.5},
        {"x": 2.0, "y": 0.25},
    ]
    assert match["query_curve"] == [{"x": 0.0, "y": 20.0}, {"x": 5.0, "y": 2.0}]
    assert (match["sandbox"], match["isolated"]) == (["process"], False)
    samples = client.get(f"/api/v1/matches/{played['match']}/samples").json()
    assert [sample["distance"] for sample in samples] == [1.0, 2.0, None, 0.0]


def test_why_an_attack_failed_on_a_sample_is_for_its_owner_alone(
    client: Client, world: Any, ada: dict[str, str], bob: dict[str, str], operator: dict[str, str]
) -> None:
    world.entry("untargeted-attack", "baseline")
    model, attack = world.entry("model", "ada"), world.entry("untargeted-attack", "bob")
    baseline = world.entry("model", "baseline")
    world.settle()
    world.play(baseline, attack, [1.0] * 4)
    match = world.play(model, attack, [None] * 4)
    path = f"/api/v1/matches/{match}/samples"
    for who, seen in ((ada, None), ({}, None), (bob, "secret reason"), (operator, "secret reason")):
        assert {sample["reason"] for sample in client.get(path, headers=who).json()} == {seen}


def test_how_a_model_failed_is_not_shown_to_the_attack_that_met_it(
    client: Client, world: Any, ada: dict[str, str], bob: dict[str, str]
) -> None:
    attack = world.entry("untargeted-attack", "bob")
    model, baseline = world.entry("model", "ada"), world.entry("model", "baseline")
    world.settle()
    world.play(baseline, attack, [1.0] * 4)
    match = world.match(model, attack)
    world.end(match, "failed_user", fault=model)
    path = f"/api/v1/matches/{match}"
    assert client.get(path, headers=ada).json()["reason"] == "secret reason"
    for who in (bob, {}):
        assert "by its own fault" in client.get(path, headers=who).json()["reason"]
        shown = client.get(f"/api/v1/submissions/{attack}", headers=who).text
        assert "secret" not in shown


def test_what_was_withdrawn_is_not_run_again(
    client: Client, world: Any, ada: dict[str, str]
) -> None:
    world.entry("untargeted-attack", "baseline")
    model = world.entry("model", "ada")
    world.settle()
    place = f"/api/v1/submissions/{model}"
    assert client.post(f"{place}:withdraw", headers=ada).status_code == 202
    is_problem(client.post(f"{place}:rerun", headers=ada), errors.Conflict)


def test_matches_are_listed_page_by_page_without_gap_or_repeat(client: Client, world: Any) -> None:
    world.entry("untargeted-attack", "baseline")
    for _ in range(5):
        world.entry("model")
    world.settle()
    seen: list[str] = []
    after = None
    while True:
        params = {"limit": "2", "track": MODELS} | ({"after": after} if after else {})
        page = client.get("/api/v1/matches", params=params).json()
        seen += [item["id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert len(seen) == 5
    assert seen == sorted(set(seen), reverse=True)


def test_an_entry_shows_its_row_and_its_matches(client: Client, played: dict[str, str]) -> None:
    entry = client.get(f"/api/v1/entries/{played['model']}").json()
    assert entry["row"]["score"] == 1.5
    assert [match["id"] for match in entry["matches"]] == [played["match"]]
    assert (entry["attempts"], entry["isolated"]) == ([], False)


def test_an_adversarial_is_everybodys_and_a_submission_its_owners(
    client: Client,
    app: FastAPI,
    played: dict[str, str],
    ada: dict[str, str],
    bob: dict[str, str],
    sqlite: Database,
) -> None:
    store: Store = app.state.tiltyard.store
    image, package, stray = store.put(b"adversarial"), store.put(b"package"), store.put(b"stray")
    with sqlite.write() as session:
        session.execute(
            update(SampleResult).where(SampleResult.sample == 0).values(adversarial_sha256=image)
        )
        session.execute(
            update(Submission).where(Submission.id == played["model"]).values(sha256=package)
        )
    answer = client.get(f"/api/v1/artifacts/{image}")
    assert answer.content == b"adversarial"
    assert "immutable" in answer.headers["cache-control"]
    part = client.get(f"/api/v1/artifacts/{image}", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"ver")
    assert client.get(f"/api/v1/artifacts/{package}", headers=ada).content == b"package"
    for who in (bob, {}):
        is_problem(client.get(f"/api/v1/artifacts/{package}", headers=who), errors.NotFound)
    for name in (stray, "0" * 64, "x", "..%2f..%2fserver.lock"):
        is_problem(client.get(f"/api/v1/artifacts/{name}", headers=ada), errors.NotFound)


def test_a_track_shows_its_rules_as_data(client: Client, tracks: dict[str, Track]) -> None:
    listed = client.get("/api/v1/tracks").json()
    assert {track["name"] for track in listed} == set(tracks)
    kinds = ["model", "untargeted-attack", "targeted-attack"]
    assert [track["kind"] for track in listed] == kinds
    rules = client.get(f"/api/v1/tracks/{MODELS}/rules").json()
    assert rules in listed
    assert rules["limits"]["run_seconds"] == tracks[MODELS].limits.run_seconds
    assert rules["threat"]["max_queries"] == 30
    assert rules["image"] == {"shape": [28, 28, 1], "dtype": "uint8", "classes": 10}
    assert rules["opponent_track"] == ATTACKS


# live


def read_events(lines: Iterator[str], count: int) -> list[tuple[int, str, dict[str, Any]]]:
    found, event = [], {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif "id" in event:
            found.append((int(event["id"]), event["event"], json.loads(event["data"])))
            event = {}
            if len(found) == count:
                break
    return found


def test_a_board_tells_of_changes_as_they_happen_and_of_those_that_were_missed(
    address: str, world: Any, sqlite: Database
) -> None:
    path = f"{address}/api/v1/boards/{MODELS}/events"
    with httpx.stream("GET", path) as live:
        assert live.headers["content-type"].startswith("text/event-stream")
        lines = live.iter_lines()
        world.entry("untargeted-attack", "baseline")
        world.entry("model")
        world.settle()
        ((number, kind, event),) = read_events(lines, 1)
        assert (kind, event["track"]) == ("board", MODELS)
    with httpx.stream("GET", path, headers={"Last-Event-ID": str(number - 1)}) as late:
        ((again, _, repeated),) = read_events(late.iter_lines(), 1)
    assert (again, repeated) == (number, event)
    with httpx.stream("GET", path, params={"after": 0}) as whole, sqlite.read() as session:
        wanted = session.scalars(select(Event.id).filter_by(track=MODELS)).all()
        assert [n for n, _, _ in read_events(whole.iter_lines(), len(wanted))] == list(wanted)


def test_a_live_feed_asks_for_a_good_start(client: Client) -> None:
    path = f"/api/v1/boards/{MODELS}/events"
    is_problem(client.get(path, headers={"Last-Event-ID": "abc"}), errors.BadRequest)
    is_problem(client.get("/api/v1/boards/chess/events"), errors.NotFound)


def test_an_event_does_not_name_what_is_not_public(
    client: Client, ada: dict[str, str], sqlite: Database
) -> None:
    submit(client, ada, upload(client, ada))
    with sqlite.read() as session:
        event = session.scalars(select(Event).where(Event.submission_id.is_not(None))).one()
    assert (event.kind, event.payload) == ("submission.validating", {})


# problems, headers, health


def test_every_mistake_of_a_client_is_a_problem_document(
    client: Client, ada: dict[str, str]
) -> None:
    assert "openapi.json" in is_problem(client.get("/api/v1/none"), errors.NotFound)["detail"]
    answer = client.post("/api/v1/submissions", headers=ada, json={"track": 3})
    problem = is_problem(answer, errors.Invalid)
    assert {item["where"] for item in problem["errors"]} >= {"body.track", "body.upload"}
    answer = client.post("/api/v1/submissions", headers=ada, content=b"{")
    is_problem(answer, errors.Invalid)
    is_problem(client.get("/api/v1/matches", params={"limit": 0}), errors.Invalid)
    answer = client.delete("/api/v1/tracks")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert answer.json()["type"] == "urn:tiltyard:problem:http-405"
    is_problem(client.get("/api/v1/matches/none"), errors.NotFound)
    is_problem(client.get("/api/v1/boards/none"), errors.NotFound)


def test_a_body_that_is_too_long_is_refused_while_it_comes(
    client: Client, ada: dict[str, str]
) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 65536

    answer = client.post("/api/v1/submissions", headers=ada, content=endless())
    is_problem(answer, errors.TooLarge)


def test_our_own_crash_tells_its_number_and_nothing_else(client: Client) -> None:
    answer = client.get("/api/v1/crash")
    problem = is_problem(answer, errors.ApiError)
    assert "secret" not in answer.text
    assert problem["request_id"] in problem["detail"]


@pytest.mark.parametrize("path", ["/", "/api/v1/tracks", "/nothing", "/api/v1/crash", "/healthz"])
def test_every_answer_carries_the_security_headers(client: Client, path: str) -> None:
    headers = client.get(path, headers={"Accept": "text/html"}).headers
    policy = headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_a_browser_gets_a_page_for_what_is_not_there(client: Client) -> None:
    answer = client.get("/nothing", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")


def test_no_get_changes_the_record(
    client: Client,
    app: FastAPI,
    played: dict[str, str],
    ada: dict[str, str],
    sqlite: Database,
) -> None:
    def everything() -> list[Any]:
        with sqlite.read() as session:
            tables = (Submission, Job, Event, Upload, QuotaDay)
            return [session.execute(select(table.__table__)).all() for table in tables]

    before = everything()
    for route in app.openapi()["paths"]:
        path = route.replace("{track}", MODELS).replace("{match_id}", played["match"])
        path = path.replace("{submission_id}", played["model"])
        if "{" not in path and not path.endswith("/events"):
            client.get(path, headers=ada)
    assert everything() == before


# documents


def test_every_route_setting_and_problem_is_documented(client: Client, app: FastAPI) -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    api, server = ((docs / name).read_text() for name in ("api.md", "server.md"))
    for path in app.openapi()["paths"]:
        if path != "/api/v1/crash":
            assert f"{path.removeprefix('/api/v1')}`" in api.replace("?", "`"), path
    for kind in errors.PROBLEMS:
        assert f"`{errors.TYPE_PREFIX}{kind.slug}` | {kind.status} |" in api
    for name in server_settings.Settings.model_fields:
        assert f"`{name}`" in server, name
