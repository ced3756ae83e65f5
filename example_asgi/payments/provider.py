"""A payment provider as they are: honours idempotency keys, and has its bad moments.

The bad moments come by number, not by chance, so that every demo shows them:

* every third new request is told "503, come back in a second", and nothing is charged;
* the answer to the third charge is lost on the way: the money is taken, and the shop is told 504.
"""

from dataclasses import dataclass

from django.db import transaction
from django.db.models import Sum

from payments.models import ApiRequest, Charge, Refund

BUSY_EVERY = 3
LOST_ANSWER = 3


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A charge that is asked for."""

    key: str
    order: str
    amount_cents: int
    card: str


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    body: dict
    retry_after: int | None = None


def charge(wish):
    """Charge once per key, however often it is asked for; returns the answer to send."""
    with transaction.atomic():
        # Written before anything is read, so that SQLite's one write lock is held from here on.
        request = ApiRequest.objects.create(key=wish.key, order=wish.order)
        reply = _reply(wish, known=Charge.objects.filter(key=wish.key).first())
        request.answer = reply.status
        request.save(update_fields=["answer"])
    return reply


def _reply(wish, known):
    if known:
        same = (known.order, known.amount_cents, known.card)
        if same != (wish.order, wish.amount_cents, wish.card):
            return Reply(status=409, body={"error": "this key was used for another charge"})
        return _stored(known)
    if _busy(wish.key):
        return Reply(status=503, body={"error": "too busy, nothing was charged"}, retry_after=1)
    made = Charge.objects.create(
        key=wish.key, order=wish.order, amount_cents=wish.amount_cents, card=wish.card,
        paid=wish.card != "card-declined",
    )  # fmt: skip
    if made.paid and Charge.objects.filter(paid=True).count() == LOST_ANSWER:
        return Reply(status=504, body={"error": "a gateway in between gave up"})
    return _stored(made)


def refund(key, order):
    """Give back what the order has paid, once per key; nothing if it has paid nothing."""
    with transaction.atomic():
        made, first = Refund.objects.get_or_create(
            key=key, defaults={"order": order, "amount_cents": 0}
        )
        if made.order != order:
            return Reply(status=409, body={"error": "this key was used for another order"})
        if first:
            made.amount_cents = _paid(order)
            made.save(update_fields=["amount_cents"])
    return Reply(status=200, body={"refund": f"re_{made.pk:06}", "amount_cents": made.amount_cents})


def _paid(order):
    charged = Charge.objects.filter(order=order, paid=True).aggregate(all=Sum("amount_cents"))
    refunded = Refund.objects.filter(order=order).aggregate(all=Sum("amount_cents"))
    return (charged["all"] or 0) - (refunded["all"] or 0)


def _busy(key):
    first = ApiRequest.objects.filter(key=key).count() == 1
    return first and ApiRequest.objects.values("key").distinct().count() % BUSY_EVERY == 0


def _stored(known):
    if not known.paid:
        return Reply(status=402, body={"error": "the card was declined"})
    body = {"charge": f"ch_{known.pk:06}", "order": known.order, "amount_cents": known.amount_cents}
    return Reply(status=200, body=body)
