"""The protocol's model: no law is broken with any one fault, and each rule is needed.

With two faults: ``python -m tests.faults.model --faults 2``.
"""

from dataclasses import replace

import pytest

from tests.faults.model import laws
from tests.faults.model.__main__ import main
from tests.faults.model.explorer import Found, Search, steps
from tests.faults.model.mutations import MUTATIONS, Mutation
from tests.faults.model.mutations_vocabulary import VOCABULARY as NEW_MUTATIONS
from tests.faults.model.state import FAULTS, Rules, World, first_state
from tests.faults.model.worlds import FAMILIES, LONGER, VOCABULARY, WORLDS

EVERY = (*WORLDS, *VOCABULARY, *FAMILIES)
DROPPED = (*MUTATIONS, *NEW_MUTATIONS)


#: By the world's name. No fixture: the one of a module ends when a worker takes another's test
#: in between, and everything would be explored twice.
explored: dict[str, Found] = {}


@pytest.mark.slow
@pytest.mark.xdist_group("model")  # what one explored, the next one counts
@pytest.mark.parametrize("world", EVERY, ids=lambda world: world.name)
def test_no_interleaving_with_any_one_fault_breaks_a_law(world: World) -> None:
    found = Search(world).run()
    explored[world.name] = found
    print(f"{world.name}: {found.states:,} states, {found.edges:,} steps")
    assert not found.violations, "\n".join(map(str, found.violations.values()))
    assert found.completed > 0


@pytest.mark.slow
@pytest.mark.xdist_group("model")
def test_search_is_wide_enough_to_mean_something() -> None:
    for world in EVERY:
        if world.name not in explored:  # run alone
            explored[world.name] = Search(world).run()
    assert sum(found.states for found in explored.values()) >= 700_000
    happened = set().union(*(found.actions for found in explored.values()))
    assert {action for action in happened if action.startswith("F ")} == set(HAPPENING)


#: More than any of the mutations' worlds has.
LIMIT = 50_000

#: How each kind of fault shows in the steps, so that none of them is there in name only.
HAPPENING = {
    "F crashes": "crash",
    "F gives up on": "timeout",
    "F duplicates": "dup",
    "F POST fails": "pubfail",
    "F lease of a live holder expires": "zombie",
    "F delivers early": "early",
    "F loses": "lose",
    "F sender dies in its transaction": "sender",
    "F sender dies before SIGNAL": "sender",
    "F dies before POST": "sender",
    "F nudges": "spurious",
    "F posts and dies": "unnoted",
    "F dies before its note": "unnoted",
    "F stops": "stop",
    "F releases": "infra",
}


def test_every_kind_of_fault_is_among_those_that_have_to_happen() -> None:
    assert set(HAPPENING.values()) == FAULTS


@pytest.mark.parametrize("mutation", DROPPED, ids=lambda mutation: mutation.name)
def test_law_breaks_without_the_rule(mutation: Mutation) -> None:
    found = Search(mutation.mutated, until=mutation.law, limit=LIMIT).run()
    assert mutation.law in found.violations, list(found.violations)
    violation = found.violations[mutation.law]
    print(f"{mutation.name}: {violation}")
    assert violation.trace


@pytest.mark.parametrize("mutation", DROPPED, ids=lambda mutation: mutation.name)
def test_same_small_world_keeps_all_laws_with_the_rule(mutation: Mutation) -> None:
    assert not Search(mutation.world).run().violations


def test_every_rule_is_dropped_by_a_mutation() -> None:
    dropped = {rule for mutation in DROPPED for rule in mutation.rules}
    assert dropped == set(Rules.__dataclass_fields__)


def test_fence_alone_suffices_without_the_unique_key() -> None:
    """The key is the second barrier: it is needed where the first one is broken."""
    world = next(world for world in WORLDS if world.name == "timed")
    world = replace(world, kinds=frozenset({"zombie"}), rules=Rules(unique_key=False))
    assert not Search(world).run().violations


def test_trace_is_a_way_from_the_beginning_and_a_shortest_one() -> None:
    mutation = next(m for m in MUTATIONS if m.law == laws.TWICE)
    found = Search(mutation.mutated, until=mutation.law, limit=LIMIT).run()
    trace = found.violations[mutation.law].trace
    reached = {first_state(mutation.mutated)}
    for length, action in enumerate(trace, start=1):
        following = {t for s in reached for _, t in steps(mutation.mutated, s)}
        broken = any(laws.TWICE in laws.of_state(mutation.mutated, t) for t in following)
        assert broken == (length == len(trace))
        reached = {t for s in reached for a, t in steps(mutation.mutated, s) if a == action}
    assert any(laws.TWICE in laws.of_state(mutation.mutated, t) for t in reached)


def test_command_tells_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--world", "race", "--faults", "0"]) == 0
    printed = capsys.readouterr().out
    assert "race: " in printed
    assert "0 violations" in printed


def test_longer_search_has_two_handlers_everywhere() -> None:
    assert {world.handlers for world in LONGER} == {2}
