"""Large orders: somebody approves them, another run ships them, and what fails is undone.

What undoes a step is said beside it (``compensate=``). It is called when the run fails or is
cancelled, newest step first, and not at all when the run completes.
"""

from datetime import timedelta

from django.conf import settings
from orders.services import reserve_stock, validate_order

from django_hookflow import SyncWorkflowContext, WorkflowContext, workflow
from wholesale.services import (
    ask_warehouse,
    book_parcel,
    cancel_parcel,
    close_order,
    pack,
    put_back,
    refund,
    tell_customer,
)


@workflow(on_failure=tell_customer, timeout=timedelta(days=14))
async def fulfil_large_order(ctx: WorkflowContext):
    """Approve, reserve, charge, ship."""
    order_id = ctx.data["order_id"]
    order = await ctx.step.run("validate", validate_order, order_id)

    # A link that works once. To open it does nothing; the page's button answers.
    approval = await ctx.step.callback(
        "approve",
        expires=timedelta(days=7),
        confirm=f"Send order {order_id}, {order['pieces']} pieces?",
    )
    await ctx.step.run("ask", ask_warehouse, order_id, approval.url)
    await ctx.step.wait_for_callback(approval)

    undoes = ctx.step.options(compensate=(put_back, order_id))
    await undoes.atomic("reserve", reserve_stock, order_id)

    undoes = ctx.step.options(compensate=(refund, order_id))
    payment = await undoes.call(
        "charge",
        url=f"{settings.ORDERS_PAYMENTS_URL}charges/",
        method="POST",
        body={"order": order_id, "amount_cents": order["total_cents"], "card": order["card"]},
    )

    # A run of its own, with a name of ours. It fails? Then so does this step.
    shipped = await ctx.step.invoke("ship", ship_parcels, order, run_id=f"{ctx.run_id}/ship")
    await ctx.step.run("close", close_order, order_id)
    return {"status": "completed", "charge": payment["data"]["charge"], **shipped}


@workflow
def ship_parcels(ctx: SyncWorkflowContext):
    """Pack, book the carrier for each parcel, and wait until its driver was here."""
    order_id = ctx.data["order"]
    parcels = ctx.step.run("pack", pack, order_id, ctx.data["pieces"])

    # A step for each parcel, two at a time.
    undoes = ctx.step.options(compensate=(cancel_parcel, order_id))
    booked = undoes.map("book", book_parcel, parcels, concurrency=2)

    # run.send_event("picked-up", ...): see demo/outsiders.py.
    driver = ctx.step.wait_for_event("pick-up", "picked-up", timeout=timedelta(days=3))
    return {"tracking": [parcel["tracking"] for parcel in booked], "driver": driver["driver"]}
