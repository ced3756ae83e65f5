"""The modes strike, and a bug that only shows under one of them is found there."""

import pytest

from django_hookflow.core.transitions import Claimed
from django_hookflow.journals.memory import MemoryJournal

from .modes import MODES, ACrashAfterEveryCommit, EveryLeaseLostOnce


def three_steps(ran):
    async def flow(ctx):
        for name in "abc":
            await ctx.step.run(name, ran.append, name)
        await ctx.step.sleep("nap", 10)
        return len(ran)

    return flow


@pytest.mark.parametrize("name", [name for name in MODES if name != "usual"])
def test_every_mode_strikes_and_changes_nothing(name):
    world, ran = MODES[name](), []
    run = world.run(three_steps(ran))
    assert (run.status, run.result, ran) == ("completed", 3, ["a", "b", "c"])
    assert world.strikes() >= 2


class Forgetful(MemoryJournal):
    """After a dead holder it does not read the last outcome again."""

    def claim(self, transition):
        answer = super().claim(transition)
        if isinstance(answer, Claimed) and answer.found_dead and answer.entries:
            *kept, last = answer.entries
            del self._stored.steps[transition.id][0, last.key, last.series]
            self.alter(transition.id, seq=len(kept))
            return super().claim(transition)
        return answer


def test_a_planted_bug_is_found_by_a_mode(world):
    class Planted(type(world)):
        journal_class = Forgetful

    ran = []
    try:
        run = Planted().run(three_steps(ran))
        found = (run.status, ran) != ("completed", ["a", "b", "c"])
    except AssertionError:  # it did not come to rest
        found = True
    assert found is isinstance(world, (ACrashAfterEveryCommit, EveryLeaseLostOnce))
