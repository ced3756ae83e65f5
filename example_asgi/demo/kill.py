"""The ``--kill`` act: end the web server in the worst moment, and prove that nothing was lost.

The worst moment: the payment provider has taken the money, and nobody on our side knows yet.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from orders import ledger
from payments.models import ApiRequest, Charge

from demo.children import Child
from demo.customers import WHILE_THE_SERVER_IS_DEAD
from demo.screen import Screen
from demo.watch import WAITS, RunNow, look

#: So long the web server stays away, in seconds.
AWAY = 1.0
#: The server is killed once so many other runs are asleep, so that there is something to lose.
ASLEEP = 2


@dataclass(kw_only=True)
class Kill:
    web: Child
    screen: Screen
    victim: RunNow | None = None
    #: What was recorded when the server was dead: (order, step) -> how often its body had run.
    recorded: dict[tuple[str, str], int] = field(default_factory=dict)
    is_over: bool = False
    _back_at: float = 0.0

    def tick(self, runs: list[RunNow]) -> None:
        """Called with every look at the runs: kill when the moment has come, and start again."""
        if self.victim is None:
            self._strike(runs)
        elif not self.web.is_started:
            if time.monotonic() >= self._back_at:
                self.web.start()
        elif not self.is_over and self.web.listens():
            self.is_over = True
            self.screen.say("The web server is back. QStash delivers again what it did not answer.")

    def _strike(self, runs: list[RunNow]) -> None:
        chosen = _in_the_worst_moment(runs)
        if chosen is None:
            return
        self.web.kill()
        self._back_at = time.monotonic() + AWAY
        # Read now that nobody writes any more: this was recorded, and that had happened.
        dead, bodies = look(), ledger.bodies()
        self.victim = next(run for run in dead if run.pk == chosen.pk)
        for run in dead:
            for step in run.recorded:
                if step.kind not in WAITS:
                    self.recorded[run.order, step.name] = bodies[run.order, step.name]
        WHILE_THE_SERVER_IS_DEAD.place()
        self.screen.say(
            f"Killed the web server (SIGKILL) while {chosen.run_id} was being charged: the money "
            f"has moved, and the shop does not know. {len(self.recorded)} steps of {len(dead)} "
            "runs were recorded. Meanwhile somebody places another order."
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
        if victim.is_over:
            found.append(f"{victim.run_id} was over before the web server was killed")
        return found

    def evidence(self) -> list[str]:
        """What can be said if there are no problems."""
        assert self.victim is not None, "told only after a kill"
        order = self.victim.order
        names = [step for of, step in self.recorded if of == order]
        requests = ApiRequest.objects.filter(order=order)
        keys = requests.values("key").distinct().count()
        charges = Charge.objects.filter(order=order, paid=True).count()
        return [
            f"{self.victim.run_id} finished although its web server was killed in the middle.",
            f"What was recorded did not run again: {', '.join(names)} of {self.victim.run_id}, "
            f"{len(self.recorded)} steps of all runs (counted in the ledger of bodies).",
            f"Order {order} was charged {charges} time, by {requests.count()} requests under "
            f"{keys} idempotency key (counted in the payment provider's tables).",
        ]


def _in_the_worst_moment(runs: list[RunNow]) -> RunNow | None:
    paid = set(Charge.objects.filter(paid=True).values_list("order", flat=True))
    if sum(run.status == "suspended" for run in runs) < ASLEEP:
        return None
    return next((run for run in runs if run.order in paid and _is_charging(run)), None)


def _is_charging(run: RunNow) -> bool:
    bodies = sum(step.kind not in WAITS for step in run.recorded)
    return bodies >= 2 and any(
        step.name == "charge" and step.state == "executing" for step in run.steps
    )
