"""What the steps of the workflows do. Plain functions: none of them knows that it is a step.

Only their first line, which notes them in the ledger, is there for the demo.
"""

import asyncio
import secrets
import time

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F

from django_hookflow import TerminalError
from orders import ledger
from orders.models import Order, Product, Reservation, Shipment


def validate_order(order_id):
    """The facts that the rest of the workflow needs; refuses what can never be fulfilled."""
    ledger.note(order_id)
    order = Order.objects.select_related("product").get(pk=order_id)
    if not 1 <= order.quantity <= order.product.stock:
        # No retry makes a wrong order right.
        raise TerminalError(f"{order.quantity} of {order.product.stock} pieces are ordered")
    return {
        "order": str(order.pk),
        "customer": order.customer,
        "pieces": order.quantity,
        "total_cents": order.total_cents,
        "card": order.card,
    }


def reserve_stock(order_id):
    """Take the pieces off the shelf. Run by ``ctx.step.atomic``: exactly once, or not at all."""
    ledger.note(order_id)
    order = Order.objects.get(pk=order_id)
    enough = Product.objects.filter(pk=order.product_id, stock__gte=order.quantity)
    if not enough.update(stock=F("stock") - order.quantity):
        raise TerminalError(f"not enough stock for order {order_id}")
    Reservation.objects.create(order=order, product_id=order.product_id, quantity=order.quantity)
    return order.quantity


def release_stock(order_id):
    """Put the pieces back and close the order. Run by ``ctx.step.atomic``."""
    ledger.note(order_id)
    reservation = Reservation.objects.get(order_id=order_id)
    Product.objects.filter(pk=reservation.product_id).update(
        stock=F("stock") + reservation.quantity
    )
    reservation.delete()
    Order.objects.filter(pk=order_id).update(status=Order.Status.DECLINED)


async def ship(order_id):
    """Hand the parcel to the carrier; returns the tracking number."""
    ledger.note(order_id)
    await asyncio.sleep(settings.ORDERS_CARRIER_SECONDS)
    # By order: should this body run again after a crash, it finds its own shipment.
    shipment, _ = await Shipment.objects.aget_or_create(
        order_id=order_id, defaults={"tracking": new_tracking()}
    )
    await Order.objects.filter(pk=order_id).aupdate(status=Order.Status.SHIPPED)
    return shipment.tracking


def send_receipt(order_id, customer, total_cents):
    """Mail the receipt; returns the address."""
    ledger.note(order_id)
    send_mail(
        subject=f"Your order {order_id}",
        message=f"Thank you! We charged {total_cents / 100:.2f} EUR and are shipping it.",
        from_email=None,
        recipient_list=[customer],
    )
    return customer


def fulfill_order(order_id, payment):
    """The quick start's last step, all in one: reserve, ship, done."""
    ledger.note(order_id)
    time.sleep(settings.ORDERS_CARRIER_SECONDS)
    with transaction.atomic():
        # True for one attempt only: should this body run again after a crash, it changes nothing.
        first = Order.objects.filter(pk=order_id, status=Order.Status.PLACED)
        if first.update(status=Order.Status.SHIPPED):
            order = Order.objects.get(pk=order_id)
            Product.objects.filter(pk=order.product_id).update(stock=F("stock") - order.quantity)
            Shipment.objects.create(order=order, tracking=new_tracking())
        shipment = Shipment.objects.get(order_id=order_id)
    return {"tracking": shipment.tracking, "charge": payment["data"]["charge"]}


def new_tracking():
    """A number as the carrier gives them."""
    return f"EX-{secrets.token_hex(4).upper()}"
