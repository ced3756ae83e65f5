"""The ``--kill`` act: end the web server in the worst moment, and prove that nothing was lost.

The worst moment: the payment provider has taken the money, and nobody on our side knows yet.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from orders import ledger
from payments.models import ApiRequest, Charge

from demo.children import Child
from demo.screen import Screen
from demo.watch import RunNow, look

#: So long the web server stays away, in seconds.
AWAY = 1.0


@dataclass(kw_only=True)
class Kill:
    web: Child
    screen: Screen
    victim: RunNow | None = None
    #: What was recorded when the server was dead: (order, step) -> how often its body had run.
    recorded: dict[tuple[str, str], int] = field(default_factory=dict)
    _back_at: float = 0.0

    @property
    def is_over(self) -> bool:
        return self.victim is not None and not self._back_at

    def tick(self, runs: list[RunNow]) -> None:
        """Called with every look at the runs: kill when the moment has come, and start again."""
        if self.victim is None:
            self._strike(runs)
        elif self._back_at and time.monotonic() >= self._back_at:
            self._back_at = 0.0
            self.web.start()
            self.web.wait_until_it_listens()
            self.screen.say("The web server is back; QStash will deliver again.")
        elif not self._back_at:
            self.web.check()

    def _strike(self, runs: list[RunNow]) -> None:
        paid = set(Charge.objects.filter(paid=True).values_list("order", flat=True))
        chosen = next((run for run in runs if run.order in paid and _is_charging(run)), None)
        if chosen is None:
            return
        self.web.kill()
        self._back_at = time.monotonic() + AWAY
        dead, bodies = look(), ledger.bodies()
        self.victim = next(run for run in dead if run.pk == chosen.pk)
        for run in dead:
            for step in run.recorded:
                if step.kind != "sleep":
                    self.recorded[run.order, step.name] = bodies[run.order, step.name]
        self.screen.say(
            f"Killed the web server (SIGKILL) while {chosen.run_id} was being charged: the money "
            f"has moved, and nobody knows. {len(self.recorded)} steps of {len(dead)} runs were "
            "recorded before."
        )

    def problems(self) -> list[str]:
        """What was promised and did not hold."""
        if self.victim is None:
            return ["the web server was never killed: no run was being charged when we looked"]
        now, victim = ledger.bodies(), self.victim
        found = [
            f"the body of step {step!r} of order {order} ran {now[order, step] - before} more "
            "times although it was recorded before the kill"
            for (order, step), before in self.recorded.items()
            if now[order, step] != before
        ]
        if not any(order == victim.order for order, _ in self.recorded):
            found.append(f"no step of {victim.run_id} was recorded before the kill")
        return found

    def evidence(self) -> list[str]:
        """What can be said if there are no problems."""
        assert self.victim is not None, "told only after a kill"
        order = self.victim.order
        names = [step for of, step in self.recorded if of == order]
        keys = Counter(ApiRequest.objects.filter(order=order).values_list("key", flat=True))
        return [
            f"{self.victim.run_id} finished although its web server was killed in the middle.",
            f"Bodies of steps recorded before the kill ran once: {', '.join(names)} of "
            f"{self.victim.run_id}, {len(self.recorded)} steps over all runs (ledger).",
            f"Order {order} was charged once: {sum(keys.values())} requests under "
            f"{len(keys)} idempotency key, 1 charge (payment table).",
        ]


def _is_charging(run: RunNow) -> bool:
    return len(run.recorded) >= 2 and any(
        step.name == "charge" and step.state == "executing" for step in run.steps
    )
