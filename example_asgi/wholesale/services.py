"""What the steps of large orders do, and what undoes them.

A compensation is given what its step returned, or ``None`` if nobody knows whether the step took
effect. It may be called twice, as any step may, so it looks at what there is to undo.
"""

import time

import httpx
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F
from orders import ledger
from orders.models import Order, Product, Reservation
from orders.services import new_tracking

from django_hookflow import TerminalError, current_step
from wholesale.models import Parcel

WAREHOUSE = "warehouse@example.com"
PIECES_PER_PARCEL = 10
#: What the carrier takes for one order. It says no to the next parcel, not to the whole order.
CARRIER_TAKES = 3


def ask_warehouse(order_id, url):
    """Mail the link; returns it, so that the shop's page can show it."""
    ledger.note(order_id)
    text = f"Can you send order {order_id}? Then confirm it: {url}"
    send_mail(f"Order {order_id} to approve", text, None, [WAREHOUSE])
    return url


def pack(order_id, pieces):
    """The parcels that the carrier is to take."""
    ledger.note(order_id)
    rest = range(0, pieces, PIECES_PER_PARCEL)
    return [
        {"order": order_id, "number": n, "pieces": min(PIECES_PER_PARCEL, pieces - begun)}
        for n, begun in enumerate(rest, start=1)
    ]


def book_parcel(parcel):
    """Book the carrier for one parcel."""
    ledger.note(parcel["order"])
    time.sleep(settings.ORDERS_CARRIER_SECONDS)
    if parcel["number"] > CARRIER_TAKES:
        raise TerminalError(f"the carrier takes {CARRIER_TAKES} parcels, not {parcel['number']}")
    booked, _ = Parcel.objects.get_or_create(
        order_id=parcel["order"],
        number=parcel["number"],
        defaults={"pieces": parcel["pieces"], "tracking": new_tracking()},
    )
    return {"number": booked.number, "tracking": booked.tracking}


def close_order(order_id):
    ledger.note(order_id)
    Order.objects.filter(pk=order_id).update(status=Order.Status.SHIPPED)


# --- what undoes them


def cancel_parcel(booked, order_id):
    """Undoes ``book_parcel``; with ``None`` it may be any of the order's parcels, so all."""
    ledger.note_undo(order_id)
    parcels = Parcel.objects.filter(order_id=order_id)
    (parcels if booked is None else parcels.filter(number=booked["number"])).delete()


def refund(payment, order_id):
    """Undoes the charge. The provider refunds what it has of this order, so ``None`` is fine."""
    ledger.note_undo(order_id)
    answer = httpx.post(
        f"{settings.ORDERS_PAYMENTS_URL}refunds/",
        json={"order": order_id},
        headers={"Idempotency-Key": current_step().idempotency_key},
        timeout=15,
    )
    answer.raise_for_status()  # what fails is retried, as in any step


def put_back(pieces, order_id):
    """Undoes ``reserve_stock``: whether there is something to undo, the reservation says."""
    ledger.note_undo(order_id)
    with transaction.atomic():
        for reservation in Reservation.objects.select_for_update().filter(order_id=order_id):
            shelf = Product.objects.filter(pk=reservation.product_id)
            shelf.update(stock=F("stock") + reservation.quantity)
            reservation.delete()


def tell_customer(ctx, error):
    """The workflow's ``on_failure``: called once it has failed, before anything is undone."""
    order = Order.objects.get(pk=ctx.data["order_id"])
    ledger.note(order.pk)
    Order.objects.filter(pk=order.pk).update(status=Order.Status.FAILED)
    text = f"We are sorry: {error['message']}. What you paid is on its way back to you."
    send_mail(f"Your order {order.pk} cannot be sent", text, None, [order.customer])
