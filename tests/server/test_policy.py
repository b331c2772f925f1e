"""server/policy.py: who may do what, each actor to each action."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from server.policy import ANONYMOUS, RULES, Action, Actor, can

OWNER = Actor("1", "ada", "participant", "submit")
WHO = {
    "anonymous": ANONYMOUS,
    "owner": OWNER,
    "reader": replace(OWNER, scope="read"),
    "other": Actor("2", "bob", "participant", "submit"),
    "organiser": Actor("4", "orla", "participant", "operate", organises=frozenset({"mnist5k"})),
    "elsewhere": Actor("5", "otto", "participant", "operate", organises=frozenset({"other"})),
    "operator": Actor("3", "root", "operator", "operate"),
    "modest": Actor("3", "root", "operator", "submit"),
}
SIGNED_IN = set(WHO) - {"anonymous"}
SUBMITTERS = SIGNED_IN - {"reader"}
MATRIX: dict[Action, set[str]] = {
    "public.read": set(WHO),
    "account.read": {"owner", "reader", "operator"},
    "account.write": {"owner", "operator"},
    "token.create": SIGNED_IN,
    "upload.create": SUBMITTERS,
    "upload.read": {"owner", "operator"},
    "upload.write": {"owner"},
    "submission.create": SUBMITTERS,
    "submission.list": SIGNED_IN,
    "submission.read": {"owner", "reader", "operator"},
    "submission.cancel": {"owner", "operator"},
    "submission.withdraw": {"owner", "operator"},
    "submission.rerun": {"owner", "operator"},
    "submission.logs": {"owner", "reader", "operator"},
    "team.create": SUBMITTERS,
    "team.leave": {"owner", "operator"},
    "team.manage": {"owner", "operator"},
    "challenge.manage": {"organiser", "operator"},
    "board.rescore": {"organiser", "operator"},
    "round.read": {"organiser", "operator"},
    "round.manage": {"organiser", "operator"},
    "accounts.manage": {"operator"},
    "audit.read": {"operator"},
}


@pytest.mark.parametrize("action", get_args(Action))
def test_only_these_may_do_this_to_something_of_adas_in_the_challenge(action: Action) -> None:
    allowed = {name for name, actor in WHO.items() if can(actor, action, "1", challenge="mnist5k")}
    assert allowed == MATRIX[action]


def test_without_an_object_nothing_of_anybodys_is_allowed() -> None:
    for action, (who, _) in RULES.items():
        allowed = {name for name, actor in WHO.items() if can(actor, action)}
        if who not in ("anyone", "signed-in"):
            assert allowed <= {"operator"}, action


TEAM = "9"
MEMBER = replace(OWNER, team_id=TEAM)
CAPTAIN = replace(MEMBER, captain=True)


@pytest.mark.parametrize("action", get_args(Action))
def test_a_teams_things_are_its_members_and_what_ends_them_the_captains(action: Action) -> None:
    who, _ = RULES[action]
    assert can(CAPTAIN, action, TEAM) == (who in ("anyone", "signed-in", "owner", "captain"))
    assert can(MEMBER, action, TEAM) == (who in ("anyone", "signed-in", "owner"))
    assert can(MEMBER, action, "1") == can(OWNER, action, "1"), "one's own stays one's own"
    if who in ("owner", "captain"):
        assert not can(replace(CAPTAIN, team_id="8"), action, TEAM)


def test_what_a_member_enters_is_the_teams() -> None:
    assert OWNER.party == "1"
    assert MEMBER.party == TEAM
    assert ANONYMOUS.party is None
