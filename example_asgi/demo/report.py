"""What came out of it: a table, and a judgement that does not rest on the journal alone."""

from __future__ import annotations

import base64
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orders
from django.conf import settings
from django.db.models import Sum
from orders import ledger
from orders.models import Order, Product
from payments.models import ApiRequest, Charge, Refund
from rich.box import SIMPLE_HEAD
from rich.table import Table
from wholesale.models import Parcel

from demo.watch import WAITS, RunNow

DECLINED = "card-declined"
BUSY, LOST = 503, 504
#: What follows when the carrier says no: the parcels' run undoes its own steps before it ends,
#: then the customer is told, then the order undoes its own, newest first.
FOLLOWS = ["undo book", "on_failure", "undo charge", "undo reserve"]
CATALOGUE = Path(orders.__file__).with_name("fixtures") / "catalogue.json"
#: More than a demo sends; the server gives so many log entries at once.
MOST_EVENTS = 1000


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Counted where the journal has no say: at QStash, at the provider, in the ledger."""

    messages: Counter[str]
    charges: Counter[str]
    refunds: Counter[str]
    #: What each order paid and did not get back, in cents.
    kept: dict[str, int]
    answers: dict[str, list[int]]
    #: The bodies that ran, as often as they did, in the order in which they began.
    happened: dict[str, list[str]]

    def times(self, order: str, step: str) -> int:
        return self.happened[order].count(step)


def collect() -> Facts:
    answers: dict[str, list[int]] = defaultdict(list)
    for order, answer in ApiRequest.objects.values_list("order", "answer"):
        answers[order].append(answer)
    happened: dict[str, list[str]] = defaultdict(list)
    for order, step in ledger.happened():
        happened[order].append(step)
    paid = Charge.objects.filter(paid=True)
    return Facts(
        messages=_messages(),
        charges=Counter(paid.values_list("order", flat=True)),
        refunds=Counter(Refund.objects.values_list("order", flat=True)),
        kept=_sums(paid) - _sums(Refund.objects.all()),
        answers=answers,
        happened=happened,
    )


def _sums(rows: Any) -> Counter[str]:
    return Counter(dict(rows.values_list("order").annotate(Sum("amount_cents")).order_by()))


def _messages() -> Counter[str]:
    """How many messages were published for each run; a redelivery is no new message."""
    answer = httpx.get(
        f"{settings.QSTASH_URL}/v2/events",
        params={"state": "CREATED", "count": MOST_EVENTS},
        headers={"Authorization": f"Bearer {settings.QSTASH_TOKEN}"},
        timeout=5,
    )
    bodies = [
        base64.b64decode(event["body"]) for event in answer.raise_for_status().json()["events"]
    ]
    return Counter(json.loads(body).get("run", "") for body in bodies)


def table(runs: list[RunNow], facts: Facts) -> Table:
    drawn = Table(title="Results", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("run", no_wrap=True)
    drawn.add_column("workflow", no_wrap=True)
    drawn.add_column("status", overflow="fold")
    for name in ("steps", "attempts", "seconds", "messages", "charged", "refunded"):
        drawn.add_column(name, justify="right")
    drawn.add_column("payment API")
    for run in runs:
        drawn.add_row(
            run.run_id,
            run.workflow,
            run.status if _outcome(run) in ("", run.status) else f"{run.status} ({_outcome(run)})",
            str(len(run.steps)),
            str(sum(step.attempts for step in run.steps)),
            f"{run.seconds:.1f}",
            str(facts.messages[run.pk]),
            *(_money(run, facts)),
        )
    return drawn


def _money(run: RunNow, facts: Facts) -> tuple[str, str, str]:
    if run.is_child:  # money is its parent's business
        return "", "", ""
    charges, refunds = facts.charges[run.order], facts.refunds[run.order]
    answers = ", ".join(map(str, facts.answers[run.order]))
    return f"{charges} x", f"{refunds} x" if refunds else "", answers


def _outcome(run: RunNow) -> str:
    return str(run.result.get("status", "")) if isinstance(run.result, dict) else ""


def stories(runs: list[RunNow], facts: Facts) -> list[str]:
    """What the payment API's bad moments and the carrier's no led to, order by order."""
    told = [
        f"order {run.order}: {run.error}. Its charge was refunded, its pieces are on the shelf."
        for run in runs
        if run.status == "failed" and not run.is_child
    ]
    for order, answers in facts.answers.items():
        if LOST in answers:
            told.append(
                f"order {order}: the answer to its charge was lost ({LOST}). The retry went out "
                f"under the same idempotency key: charged {facts.charges[order]} time."
            )
        elif BUSY in answers:
            told.append(f"order {order}: the payment API was busy ({BUSY}), the step was retried.")
    return told


def problems(runs: list[RunNow], facts: Facts) -> list[str]:
    """What is not as it should be; empty if all is well."""
    found = []
    for run in runs:
        status, expected = _expected(run)
        if run.status != status or (expected and _outcome(run) != expected):
            found.append(f"{run.run_id} should be {status}, but is {run.status}: {run.error}")
        if not run.is_child:
            found += _accounts(run, facts) + _undoing(run, facts)
    return found + _shelves()


def _expected(run: RunNow) -> tuple[str, str]:
    """A run's status and, if it has one, the status in its result."""
    if run.refused:
        return "failed", ""
    if run.is_child:
        return "completed", ""
    return "completed", "declined" if run.card == DECLINED else "completed"


def _accounts(run: RunNow, facts: Facts) -> list[str]:
    """Charges and refunds, by the provider's books."""
    due = {"charged": int(run.card != DECLINED), "refunded": int(run.refused)}
    done = {"charged": facts.charges[run.order], "refunded": facts.refunds[run.order]}
    found = [
        f"order {run.order} was {what} {done[what]} times instead of {due[what]}"
        for what in due
        if done[what] != due[what]
    ]
    if (facts.kept[run.order] > 0) != (due["charged"] > due["refunded"]):
        found.append(f"order {run.order} has paid {facts.kept[run.order]} cents in the end")
    return found


def _undoing(run: RunNow, facts: Facts) -> list[str]:
    """Whether what had to be undone was, in the right order, by the ledger of bodies."""
    began = [step.partition("[")[0] for step in facts.happened[run.order]]  # book[2]: book
    followed = [step for step in dict.fromkeys(began) if step in FOLLOWS]
    due = FOLLOWS if run.refused else []
    found = [] if followed == due else [f"{run.run_id} did {followed} in the end, not {due}"]
    booked = Parcel.objects.filter(order=run.order).count()
    if run.refused and booked:
        found.append(f"the carrier still has {booked} parcels of order {run.order}")
    return found


def _shelves() -> list[str]:
    """Whether the pieces on the shelves are those that no order has."""
    sold = Order.objects.filter(status=Order.Status.SHIPPED).values_list("product__sku")
    gone = Counter(dict(sold.annotate(Sum("quantity")).order_by()))
    had = {
        each["fields"]["sku"]: each["fields"]["stock"] for each in json.loads(CATALOGUE.read_text())
    }
    return [
        f"{product.stock} pieces of {product.sku} are left, not {due}"
        for product in Product.objects.all()
        if product.stock != (due := had[product.sku] - gone[product.sku])
    ]


def repeated(runs: list[RunNow], facts: Facts) -> list[str]:
    """Steps whose body ran more often than the journal knows: for demos without a kill."""
    return [
        f"the body of step {step.name!r} of {run.run_id} ran {times} times, but "
        f"{step.attempts} attempts are recorded"
        for run in runs
        for step in run.steps
        if step.kind not in WAITS and (times := facts.times(run.order, step.name)) != step.attempts
    ]
