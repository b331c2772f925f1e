"""The tracks as the server sees them: which exist, which meet, and what they say as data.

A *rules version* names everything that decides a match's facts: data, images, threat model, seed
and the version of the track. Two tracks whose rules versions are equal meet: a match between their
entries counts for both boards.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

from .errors import NotFound
from .schemas import ImageContract, Kind, LimitsView, ThreatView, TrackView

if TYPE_CHECKING:
    from bench.match import ThreatModel
    from bench.tracks.types import Track

OTHER_SIDE: dict[Kind, Kind] = {"model": "untargeted-attack", "untargeted-attack": "model"}
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


def rules_version(of: Track) -> str:
    """The version of the rules that a match of this track is played by."""
    threat = of.threat
    parts = [
        of.dataset,
        of.split,
        str(of.images),
        threat.norm,
        threat.access,
        "targeted" if threat.targeted else "untargeted",
        str(threat.max_queries),
        "uint8" if threat.quantised else "float",
        f"seed{of.seed}",
        f"v{of.version}",
    ]
    return "/".join(parts)


def meeting(of: Track) -> list[Track]:
    """The tracks whose entries are opponents of this one's."""
    return [other for other in sharing(rules_version(of)) if other.kind == OTHER_SIDE[of.kind]]


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


def track_view(of: Track) -> TrackView:
    """The whole track as data."""
    return TrackView(
        name=of.name,
        title=of.title,
        kind=of.kind,
        dataset=of.dataset,
        split=of.split,
        images=of.images,
        threat=threat_view(of),
        limits=LimitsView(**asdict(of.limits)),
        rank_by=of.rank_by,
        higher_is_better=of.higher_is_better,
        version=of.version,
        unit=f"{of.threat.norm.capitalize()} distance on values in [0, 1]",
        opponents=of.top_opponents,
        opponent_track=next((other.name for other in meeting(of)), None),
        image=ImageContract(shape=of.image_shape, classes=of.classes),
        seed=of.seed,
        rules_version=rules_version(of),
        hidden=hidden(of),
    )
