"""The workflows of small orders; found here because the file is called ``workflows.py``.

What is outside the steps may run many times. What is inside a step is recorded once. Large
orders, which wait for people and are undone when they fail, are in ``wholesale/workflows.py``.
"""

import asyncio

from django.conf import settings

from django_hookflow import SyncWorkflowContext, WorkflowContext, workflow
from django_hookflow.exceptions import CallFailed
from orders.services import (
    fulfill_order,
    release_stock,
    reserve_stock,
    send_receipt,
    ship,
    validate_order,
)


@workflow
async def fulfil_order_async(ctx: WorkflowContext):
    """From the order to the parcel; started by ``await fulfil_order_async.atrigger(...)``."""
    order_id = ctx.data["order_id"]
    order = await ctx.step.run("validate", validate_order, order_id)

    # Stock and journal commit in one transaction: no crash can reserve twice, or for nobody.
    await ctx.step.atomic("reserve", reserve_stock, order_id)

    # Sent with an Idempotency-Key that is the same for every attempt, also after a crash.
    try:
        payment = await ctx.step.call(
            "charge",
            url=f"{settings.ORDERS_PAYMENTS_URL}charges/",
            method="POST",
            body=_charge(order),
        )
    except CallFailed as error:
        if error.response is None or error.response.status_code != 402:
            raise
        await ctx.step.atomic("release", release_stock, order_id)
        return {"status": "declined", "order": order_id}

    # Nothing is held meanwhile: QStash wakes the run when the time has come.
    await ctx.step.sleep("pack", seconds=settings.ORDERS_PACKING_SECONDS)

    tracking, mailed_to = await asyncio.gather(
        ctx.step.run("ship", ship, order_id),
        ctx.step.run("e-mail", send_receipt, order_id, order["customer"], order["total_cents"]),
    )
    return {
        "status": "completed",
        "order": order_id,
        "charge": payment["data"]["charge"],
        "tracking": tracking,
        "mailed_to": mailed_to,
    }


@workflow
def process_order(ctx: SyncWorkflowContext):
    """The quick start, with the local payment API and a shorter wait."""
    order_id = ctx.data.get("order_id")
    validated = ctx.step.run("validate", validate_order, order_id)
    ctx.step.sleep("wait-for-payment", seconds=settings.ORDERS_PAYMENT_WAIT_SECONDS)
    payment = ctx.step.call(
        "charge",
        url=f"{settings.ORDERS_PAYMENTS_URL}charges/",
        method="POST",
        body=_charge(validated),
    )
    result = ctx.step.run("fulfill", fulfill_order, order_id, payment)
    return {"status": "completed", "result": result}


def _charge(order):
    return {"order": order["order"], "amount_cents": order["total_cents"], "card": order["card"]}
