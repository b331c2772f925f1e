"""Every page over HTTP, as a browser without JavaScript gets it."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from PIL import Image

from bench import dataset
from bench.reports import components, images
from server.db import queries

if TYPE_CHECKING:
    from .conftest import World

MODEL_TRACK, ATTACK_TRACK = "mnist5k-robust-model", "mnist5k-untargeted-attack"


def get(client: httpx.Client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def plain(html: str) -> str:
    """The text of a page, white space collapsed."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_an_empty_server_says_so_on_every_page(world: World, client: httpx.Client) -> None:
    assert "No result yet." in get(client, "/")
    board = plain(get(client, f"/boards/{MODEL_TRACK}"))
    assert "0 scored, 4 jobs waiting or playing" in board
    with world.database.read() as session:
        reason = queries.board(session, MODEL_TRACK).rows[0].reason
    assert reason
    assert reason in board
    assert "No worker runs in this server" in get(client, "/queue")


def test_the_front_page_leads_to_every_board_with_its_best(
    world: World, client: httpx.Client
) -> None:
    world.play()
    world.enter("Ridgeline", MODEL_TRACK)
    world.play(strength=3)
    html = get(client, "/")
    for track in (MODEL_TRACK, ATTACK_TRACK):
        assert f'href="/boards/{track}"' in html
    assert f'<a href="/entries/{world.entry_id("Ridgeline")}">Ridgeline</a>' in html
    assert html.index(">Ridgeline<") < html.index(">small_cnn<")


def test_a_board_prints_the_very_scores_of_the_record(world: World, client: httpx.Client) -> None:
    world.play()
    world.enter("Ridgeline", MODEL_TRACK)
    world.play(strength=3)
    html = get(client, f"/boards/{MODEL_TRACK}")
    with world.database.read() as session:
        board = queries.board(session, MODEL_TRACK)
    rows = re.findall(r"<tr data-key.*?</tr>", html, re.DOTALL)
    assert len(rows) == len(board.rows) == 3
    for html_row, row in zip(rows, board.rows, strict=True):
        assert row.score is not None
        assert row.interval is not None
        assert row.clean_accuracy is not None
        assert row.worst_opponent is not None
        shown = plain(html_row)
        low, high = (components.distance(x) for x in (row.interval.lower, row.interval.upper))
        assert shown.startswith(f"{row.rank} {row.name} ")
        assert f"{components.distance(row.score)} [{low}, {high}]" in shown
        assert components.percent(row.clean_accuracy) in shown
        assert f'href="/matches/{row.worst_opponent.match_id}"' in html_row
        assert ("baseline" in shown) == row.baseline


def test_an_attack_board_has_no_clean_accuracy_and_names_the_hardest_model(
    world: World, client: httpx.Client
) -> None:
    world.play()
    html = get(client, f"/boards/{ATTACK_TRACK}")
    assert "Clean accuracy" not in html
    assert "Hardest model" in html
    assert "lower is better" in html


def test_results_of_the_process_sandbox_are_marked_wherever_they_show(
    world: World, client: httpx.Client
) -> None:
    world.play()
    world.enter("Ridgeline", MODEL_TRACK)
    assert "not isolated" not in get(client, f"/boards/{MODEL_TRACK}")
    world.play(sandbox="process")
    pages = (
        "/",
        f"/boards/{MODEL_TRACK}",
        f"/boards/{MODEL_TRACK}/matrix",
        f"/matches/{world.match_id('Ridgeline', 'boundary')}",
        f"/entries/{world.entry_id('Ridgeline')}",
    )
    for path in pages:
        assert "not isolated" in get(client, path), path
    trusted = get(client, f"/matches/{world.match_id('small_cnn', 'boundary')}")
    assert "not isolated" not in trusted


def test_an_entry_without_a_score_says_why(world: World, client: httpx.Client) -> None:
    world.play()
    world.enter("crashy", MODEL_TRACK)
    match = world.fail("exit code 1: a secret of its author")
    board = get(client, f"/boards/{MODEL_TRACK}")
    assert "its author sees how" in board
    page = get(client, f"/matches/{match}")
    assert "an entry failed by its own fault" in page
    assert "The match ended without one." in page
    everything = board + page + get(client, f"/entries/{world.entry_id('crashy')}")
    assert "secret" not in everything


def test_the_matrix_prints_every_median_and_links_to_its_match(
    world: World, client: httpx.Client
) -> None:
    world.play()
    html = get(client, f"/boards/{MODEL_TRACK}/matrix")
    with world.database.read() as session:
        played = queries.matches(session, track=MODEL_TRACK).items
    assert len(played) == 4
    for match in played:
        shown = components.distance(match.median_distance)
        assert f'<a href="/matches/{match.id}">{shown}</a>' in html


def test_a_match_shows_facts_curves_and_every_sample(world: World, client: httpx.Client) -> None:
    world.play()
    match = world.match_id("small_cnn", "boundary")
    html = get(client, f"/matches/{match}")
    text = plain(html)
    with world.database.read() as session:
        view, samples = queries.match(session, match), queries.samples(session, match)
    assert view.summary is not None
    assert f"Median distance (L2) {components.distance(view.summary.median_distance)}" in text
    assert "Fooled 6 of 7 attacked" in text
    assert html.count('<svg xmlns="http://www.w3.org/2000/svg" class="chart"') == 3
    rows = re.findall(r'<tr id="sample-(\d+)">(.*?)</tr>', html, re.DOTALL)
    assert len(rows) == len(samples) == 8
    for (index, row), sample in zip(rows, samples, strict=True):
        assert int(index) == sample.index
        assert sample.image_id in row
    assert "0 clean error" in plain(rows[0][1])
    assert "withstood, budget spent inf 100" in plain(rows[7][1])


def test_tables_behind_the_curves_agree_with_the_api(world: World, client: httpx.Client) -> None:
    world.play()
    match = world.match_id("small_cnn", "boundary")
    html = get(client, f"/matches/{match}")
    curve = client.get(f"/api/v1/matches/{match}").json()["accuracy_curve"]
    start = re.search(r'<tr><th scope="row">0</th>\s*<td class="number">([^<]*)', html)
    assert start is not None
    assert start.group(1) == components.percent(curve[0]["y"])


def test_gallery_pictures_are_the_stored_pixels(world: World, client: httpx.Client) -> None:
    world.play()
    match = world.match_id("small_cnn", "gaussian_noise")
    html = get(client, f"/matches/{match}")
    addresses = re.findall(r'src="(/matches/[^"]+\.png)"', html)
    assert len(addresses) == 3 * 6
    with world.database.read() as session:
        sample = queries.samples(session, match)[2]
    assert sample.adversarial_sha256 is not None
    original = dataset("mnist5k").pixels[2]
    adversarial = world.store.get_array(sample.adversarial_sha256)
    wanted = {
        "original": original,
        "adversarial": adversarial,
        "perturbation": images.perturbation(original, adversarial)[0],
    }
    for kind, pixels in wanted.items():
        answer = client.get(f"/matches/{match}/images/2/{kind}.png")
        assert answer.headers["content-type"] == "image/png"
        assert "immutable" in answer.headers["cache-control"]
        with Image.open(io.BytesIO(answer.content)) as picture:
            assert np.array_equal(np.asarray(picture), pixels[:, :, 0])


@pytest.mark.parametrize("sample", [0, 7, 99])
def test_a_sample_without_an_adversarial_has_no_picture(
    world: World, client: httpx.Client, sample: int
) -> None:
    world.play()
    match = world.match_id("small_cnn", "boundary")
    answer = client.get(f"/matches/{match}/images/{sample}/adversarial.png")
    assert answer.status_code == 404


def test_a_hidden_split_shows_figures_but_no_image(
    world: World, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.play()
    match = world.match_id("small_cnn", "boundary")
    monkeypatch.setattr("server.rules.PUBLIC_SPLITS", ())
    html = get(client, f"/matches/{match}")
    assert "hidden split: its images are never shown" in html
    assert "<img" not in html
    assert "mnist5k-0" not in html
    assert 'class="chart"' in html
    assert client.get(f"/matches/{match}/images/2/original.png").status_code == 404


def test_an_entry_tells_its_provenance_and_why_it_ranks_where_it_does(
    world: World, client: httpx.Client
) -> None:
    world.play()
    world.enter("Ridgeline", MODEL_TRACK)
    world.play()
    text = plain(get(client, f"/entries/{world.entry_id('Ridgeline')}"))
    assert "A model by ada" in text
    assert "ab" * 32 in text
    assert re.search(r"The median sample is mnist5k-\d+ : \S+ found an adversarial", text)
    assert "Ridgeline against boundary" in text
    assert "Name in the zoo" not in text
    zoo = plain(get(client, f"/entries/{world.entry_id('small_cnn')}"))
    assert "Name in the zoo small_cnn" in zoo


def test_the_queue_says_what_comes_next_and_hides_what_is_not_public(
    world: World, client: httpx.Client
) -> None:
    world.enter("Ridgeline", MODEL_TRACK)
    text = plain(get(client, "/queue"))
    assert "Waiting 6" in text
    assert "1 match of" in text
    assert "Ridgeline" in text


@pytest.mark.parametrize(
    "path", ["/boards/nope", "/boards/nope/table", "/matches/nope", "/entries/nope", "/nope"]
)
def test_what_is_not_there_is_a_page_that_says_so(client: httpx.Client, path: str) -> None:
    html = get(client, path, 404)
    assert "Not found" in html
    assert "Back to the boards" in html


def test_names_of_participants_are_text_only(world: World, client: httpx.Client) -> None:
    name = '"><script>alert(1)</script>'
    world.play()
    world.enter(name, MODEL_TRACK)
    world.play()
    entry = world.entry_id(name)
    match = world.match_id(name, "boundary")
    for path in ("/", f"/boards/{MODEL_TRACK}", f"/entries/{entry}", f"/matches/{match}"):
        html = get(client, path)
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert(1)" in html


def test_pages_hold_nothing_that_the_content_security_policy_forbids(
    world: World, client: httpx.Client
) -> None:
    world.play()
    match = world.match_id("small_cnn", "boundary")
    for path in ("/", f"/boards/{MODEL_TRACK}", f"/matches/{match}", "/queue"):
        answer = client.get(path)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?! src=\"/static/)", answer.text)
        outside = re.findall(r'(?:src|href)="(?!/|#|\?)([^"]*)', answer.text)
        assert outside == []


def test_static_files_are_kept_for_ever_under_the_fingerprint_of_their_content(
    client: httpx.Client,
) -> None:
    html = get(client, f"/boards/{MODEL_TRACK}")
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', html)
    assert [address.split("?")[0] for address in addresses] == [
        "/static/tiltyard.css",
        "/static/icon.svg",
        "/static/board.js",
    ]
    for address in addresses:
        answer = client.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert client.get("/static/../pages.py").status_code == 404
    assert client.get("/static/pages.py").status_code == 404


def test_a_round_s_page_shows_its_boards_once_it_is_published(
    world: World, client: httpx.Client
) -> None:
    world.play()
    final = world.round("The final")
    assert "The final" in get(client, "/")
    html = get(client, f"/rounds/{final}")
    assert f'href="/rounds/{final}/boards/{MODEL_TRACK}"' in html
    assert "4 of 4 played" in plain(html)
    board = get(client, f"/rounds/{final}/boards/{MODEL_TRACK}")
    assert "hidden images" in board
    assert ">small_cnn<" in board
    match = re.search(r'href="(/matches/[^"]+)"', board)
    assert match is not None
    shown = get(client, match[1])
    assert "its images are never shown" in shown
    assert "<h2>Samples</h2>" not in shown
    get(client, "/rounds/nope", 404)


def test_the_history_of_a_board_names_every_change_and_every_rule(
    world: World, client: httpx.Client
) -> None:
    assert "Nothing has changed yet." not in get(client, f"/boards/{MODEL_TRACK}/history")
    world.play()
    html = get(client, f"/boards/{MODEL_TRACK}/history")
    assert "Best score over time" in html
    text = plain(html)
    with world.database.read() as session:
        rows = queries.board(session, MODEL_TRACK).rows
    for row in rows:
        assert f"{row.name} baseline {row.rank} {components.distance(row.score)} scored" in text
    assert "as the track has it" in text
    assert f'href="/boards/{MODEL_TRACK}/history"' in get(client, f"/boards/{MODEL_TRACK}")


def test_a_board_begins_with_who_leads_how_sure_that_is_and_the_picture_that_decided(
    world: World, client: httpx.Client
) -> None:
    world.play()
    world.enter("Ridgeline", MODEL_TRACK)
    world.play(strength=30)
    html = get(client, f"/boards/{MODEL_TRACK}")
    with world.database.read() as session:
        first, second = queries.board(session, MODEL_TRACK).rows[:2]
    assert first.name == "Ridgeline"
    assert first.score is not None
    assert first.interval is not None
    assert first.why is not None
    verdict = re.search(r'<section class="verdict".*?</section>', html, re.DOTALL)
    assert verdict is not None
    text = plain(verdict[0])
    low, high = (components.distance(x) for x in (first.interval.lower, first.interval.upper))
    assert f"a change larger than {components.distance(first.score)}" in text
    assert f"with 95 % confidence between {low} and {high}" in text
    sure = "the first place is sure as far as these images go" in text
    assert sure == bool(first.separable)
    assert (second.name in text) == (not first.separable)
    pictures = re.findall(r'src="([^"]+/(original|adversarial).png)"', verdict[0])
    assert [kind for _, kind in pictures] == ["original", "adversarial"]
    with world.database.read() as session:
        samples = queries.samples(session, first.why.match_id)
    index = next(s.index for s in samples if s.image_id == first.why.image_id)
    assert pictures[1][0] == f"/matches/{first.why.match_id}/images/{index}/adversarial.png"
    assert client.get(pictures[1][0]).status_code == 200


def test_data_links_give_exactly_what_is_shown(world: World, client: httpx.Client) -> None:
    world.play()
    for number in range(5):
        world.enter(f"Ridgeline {number}", MODEL_TRACK)
    world.play()
    html = get(client, f"/boards/{MODEL_TRACK}?q=ridge&limit=2&sort=entry&order=desc")
    names = re.findall(r'<th scope="row" class="wide"><a [^>]*>([^<]*)</a>', html)
    assert names[:2] == ["Ridgeline 4", "Ridgeline 3"]
    by_form: dict[str, list[str]] = {}
    for address, form in re.findall(r'href="(/api/v1/boards/[^"]+)">(CSV|JSON)</a>', html):
        by_form.setdefault(form, []).append(address.replace("&amp;", "&"))
    for address, wanted in zip(by_form["JSON"], (2, 5), strict=True):
        rows = client.get(address).json()["rows"]
        assert [row["entry"]["name"] for row in rows][:2] == names[:2]
        assert len(rows) == wanted
    shown = client.get(by_form["CSV"][0])
    assert shown.headers["content-type"].startswith("text/csv")
    assert [line.split(",")[1] for line in shown.text.splitlines()[1:]] == names[:2]
    after = re.search(r'href="([^"]+)" data-swap data-focus="next"', html)
    assert after is not None
    behind = get(client, after[1].replace("&amp;", "&"))
    assert re.findall(r'class="wide"><a [^>]*>([^<]*)</a>', behind)[:2] == [
        "Ridgeline 2", "Ridgeline 1",
    ]  # fmt: skip
    before = re.search(r'href="([^"]+)" data-swap data-focus="previous"', behind)
    assert before is not None
    again = get(client, before[1].replace("&amp;", "&"))
    assert re.findall(r'class="wide"><a [^>]*>([^<]*)</a>', again)[:2] == names[:2]


def test_the_history_of_an_entry_is_a_chart_of_its_rank(world: World, client: httpx.Client) -> None:
    world.play()
    world.enter("Ridgeline", MODEL_TRACK)
    world.play()
    world.enter("Furrow", MODEL_TRACK)
    world.play(strength=3)
    entry = world.entry_id("Ridgeline")
    assert f'href="/boards/{MODEL_TRACK}/history?submission={entry}"' in get(
        client, f"/entries/{entry}"
    )
    html = get(client, f"/boards/{MODEL_TRACK}/history?submission={entry}")
    text = plain(html)
    assert "What became of Ridgeline" in text
    assert "Furrow" not in text
    with world.database.read() as session:
        changes = queries.history(session, MODEL_TRACK, submission=entry).items
    ranks = [row.rank for row in changes if row.rank is not None]
    assert f"Ridgeline: rank {ranks[-1]} at first, {ranks[0]} now" in text
    get(client, f"/boards/{MODEL_TRACK}/history?submission=nope", 404)


def test_a_part_of_a_board_says_nothing_of_who_leads_the_whole(
    world: World, client: httpx.Client
) -> None:
    world.play()
    assert 'class="verdict"' in get(client, f"/boards/{MODEL_TRACK}")
    for query in ("who=baselines", "sort=score", "q=small", "order=desc"):
        assert 'class="verdict"' not in get(client, f"/boards/{MODEL_TRACK}?{query}")
    for wrong in ("sort=nonsense", "limit=0", "limit=x", "page=nonsense", f"q={'a' * 101}"):
        answer = client.get(f"/boards/{MODEL_TRACK}?{wrong}")
        assert answer.status_code in (400, 422), wrong
        assert "<h1>" in answer.text
