"""The tracks as the server sees them: which exist, which meet, and what they say as data.

A *rules version* names everything that decides a match's facts: data, images, threat model, seed
and the version of the track. A match is played by the rules of its attack's track; it counts for
every board of those rules, so one between a model and an untargeted attack counts for both.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

from .errors import NotFound
from .schemas import ImageContract, Kind, LimitsView, ScoringView, ThreatView, TrackView

if TYPE_CHECKING:
    from bench.match import ThreatModel
    from bench.tracks.types import Track

OPPONENTS: dict[Kind, Kind] = {
    "model": "untargeted-attack",
    "untargeted-attack": "model",
    "targeted-attack": "model",
}
"""For the entries of each kind, the kind of those that they are scored against."""

PUBLIC_SPLITS = ("train", "test")
"""Splits whose images, adversarials and logs may be shown; any other is hidden."""


@cache
def tracks() -> dict[str, Track]:
    """All tracks by name."""
    from bench import plugins

    return {track.name: track for track in plugins.tracks()}


def track(name: str) -> Track:
    """One track; raises NotFound that names the others."""
    found = tracks().get(name)
    if found is None:
        raise NotFound(f"there is no track {name!r}; choose one of {', '.join(sorted(tracks()))}")
    return found


def challenge_of(name: str) -> str | None:
    """The challenge of a track; None where there is no such track: nobody organises that."""
    known = tracks().get(name)
    return known.challenge if known is not None else None


def rules_version(of: Track, *, targeted: bool | None = None) -> str:
    """The version of the rules that a match of this track is played by.

    ``targeted``: of the same challenge's targeted or untargeted matches instead.
    """
    threat = of.threat
    targeted = threat.targeted if targeted is None else targeted
    parts = [
        of.dataset,
        of.split,
        str(of.images),
        threat.norm,
        threat.access,
        "targeted" if targeted else "untargeted",
        str(threat.max_queries),
        "uint8" if threat.quantised else "float",
        f"seed{of.seed}",
        f"v{of.version}",
    ]
    return "/".join(parts)


def board_version(of: Track) -> str:
    """The version of the rules that a board follows: of its matches, and of its scoring."""
    number = of.scoring.number
    return rules_version(of) if number == 1 else f"{rules_version(of)}/scoring{number}"


def opponents(of: Track) -> list[Track]:
    """The tracks whose entries this one's are scored against."""
    return [
        other
        for other in tracks().values()
        if other.kind == OPPONENTS[of.kind]
        and rules_version(other, targeted=False) == rules_version(of, targeted=False)
    ]


def concerned(version: str) -> list[Track]:
    """The tracks whose boards or matches may change with a match of these rules.

    Those that are played by them, and those that choose their opponents from the boards of these.
    """
    direct = sharing(version)
    names = {each.name for each in direct}
    chosen = [
        each
        for each in tracks().values()
        if each.name not in names and any(other.name in names for other in opponents(each))
    ]
    return direct + chosen


def of_challenge(name: str) -> list[Track]:
    """The tracks of a challenge, models first; raises NotFound that names the challenges."""
    found = [each for each in tracks().values() if each.challenge == name]
    if not found:
        raise NotFound(f"there is no challenge {name!r}; there are {', '.join(challenges())}")
    return sorted(found, key=lambda each: list(OPPONENTS).index(each.kind))


def challenges() -> list[str]:
    """The names of all challenges."""
    return sorted({each.challenge for each in tracks().values()})


def sharing(version: str) -> list[Track]:
    """All tracks that are played by these rules."""
    return [candidate for candidate in tracks().values() if rules_version(candidate) == version]


def hidden(of: Track) -> bool:
    """Whether images, adversarials and logs of this track must never be shown."""
    return of.split not in PUBLIC_SPLITS


def threat_model(of: Track) -> ThreatModel:
    """The threat model as ``bench.play`` takes it: any distance, made small."""
    from bench.match import ThreatModel

    threat = of.threat
    return ThreatModel(
        norm=threat.norm,
        epsilon=None,
        access=threat.access,
        targeted=threat.targeted,
        max_queries=threat.max_queries,
        quantised=threat.quantised,
    )


def threat_view(of: Track) -> ThreatView:
    """The threat model as data."""
    return ThreatView(**asdict(of.threat))


def scoring_view(of: Track) -> ScoringView:
    """The track's scoring as data."""
    return ScoringView(number=of.scoring.number, **of.scoring.to_json())


def track_view(of: Track) -> TrackView:
    """The whole track as data."""
    return TrackView(
        name=of.name,
        title=of.title,
        challenge=of.challenge,
        kind=of.kind,
        dataset=of.dataset,
        split=of.split,
        images=of.images,
        threat=threat_view(of),
        limits=LimitsView(**asdict(of.limits)),
        rank_by=of.rank_by,
        higher_is_better=of.higher_is_better,
        version=of.version,
        unit=f"{(of.scoring.norm or of.threat.norm).capitalize()} distance on values in [0, 1]",
        opponents=of.top_opponents,
        opponent_track=next((other.name for other in opponents(of)), None),
        image=ImageContract(shape=of.image_shape, classes=of.classes),
        seed=of.seed,
        rules_version=rules_version(of),
        board_version=board_version(of),
        scoring=scoring_view(of),
        hidden=hidden(of),
    )
