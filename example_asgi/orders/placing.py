"""Placing an order: the row and its run, from sync and from async code."""

from django.db import transaction
from wholesale.workflows import fulfil_large_order

from orders.models import Order
from orders.workflows import fulfil_order_async, process_order

#: What an order can be fulfilled by.
WORKFLOWS = {
    "fulfil_order_async": fulfil_order_async,
    "process_order": process_order,
    "fulfil_large_order": fulfil_large_order,
}


def place_order(product, workflow, **facts):
    """Order and run commit together: rolled back, there is neither, and no message was sent."""
    with transaction.atomic():
        order = Order.objects.create(product=product, **facts)
        WORKFLOWS[workflow].trigger(data={"order_id": str(order.pk)}, run_id=order.run_id)
    return order


async def aplace_order(product, workflow, **facts):
    """The same from async code, where Django has no transactions.

    The run's id is made of the order's: started again after a crash, it starts nothing twice.
    """
    order = await Order.objects.acreate(product=product, **facts)
    await WORKFLOWS[workflow].atrigger(data={"order_id": str(order.pk)}, run_id=order.run_id)
    return order
