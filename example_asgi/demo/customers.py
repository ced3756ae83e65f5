"""The customers of the demo: they order one after the other, by sync and by async code."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from orders.models import Product
from orders.placing import aplace_order, place_order

#: Seconds between two orders.
PACE = 0.4


@dataclass(frozen=True, kw_only=True)
class Wanted:
    sku: str
    workflow: str
    customer: str
    quantity: int = 1
    card: str = "card-ok"
    from_async_code: bool = False

    def place(self) -> None:
        product = Product.objects.get(sku=self.sku)
        facts = {"customer": self.customer, "quantity": self.quantity, "card": self.card}
        if self.from_async_code:
            asyncio.run(aplace_order(product, self.workflow, **facts))
        else:
            place_order(product, self.workflow, **facts)


WANTED = (
    Wanted(sku="TEA-01", workflow="fulfil_order_async", customer="kitchen@example.com", quantity=2),
    Wanted(sku="POT-02", workflow="process_order", customer="office@example.com"),
    Wanted(
        sku="CUP-03",
        workflow="fulfil_order_async",
        customer="cafe@example.com",
        card="card-declined",
    ),
    Wanted(
        sku="CUP-03",
        workflow="fulfil_order_async",
        customer="library@example.com",
        quantity=3,
        from_async_code=True,
    ),
    # Three parcels, which is what the carrier takes.
    Wanted(sku="CUP-03", workflow="fulfil_large_order", customer="hotel@example.com", quantity=24),
    # Four: approved, reserved, charged, and then undone.
    Wanted(sku="TEA-01", workflow="fulfil_large_order", customer="fair@example.com", quantity=35),
    Wanted(
        sku="TEA-01",
        workflow="process_order",
        customer="theatre@example.com",
        quantity=4,
        from_async_code=True,
    ),
    Wanted(
        sku="POT-02",
        workflow="fulfil_order_async",
        customer="museum@example.com",
        from_async_code=True,
    ),
)
WHILE_THE_SERVER_IS_DEAD = Wanted(
    sku="TEA-01", workflow="fulfil_order_async", customer="night@example.com"
)


@dataclass(kw_only=True)
class Customers:
    waiting: list[Wanted] = field(default_factory=lambda: list(WANTED))
    _next_at: float = 0.0

    def tick(self) -> None:
        """Called with every look at the runs: whoever's turn it is places an order."""
        if self.waiting and time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + PACE
            self.waiting.pop(0).place()
