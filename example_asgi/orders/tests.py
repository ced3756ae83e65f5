"""The shop's own tests, in the words of ``django_hookflow.testing``: start from these.

``self.hookflow`` drives the workflows inside the test. Time is virtual, so that nobody waits for
the parcel to be packed; no message leaves, no web server and no QStash is needed.
"""

import tempfile
from pathlib import Path

from django.core import mail
from django.db import transaction
from django.test import LiveServerTestCase, TestCase, override_settings
from django.urls import reverse
from payments.models import ApiRequest, Charge

from django_hookflow.models import WorkflowRun
from django_hookflow.testing import HookflowMixin
from orders import ledger
from orders.models import Order, Product, Shipment
from orders.placing import aplace_order, place_order
from orders.workflows import fulfil_order_async, process_order


class ShopMixin(HookflowMixin):
    """A product, a quick carrier, and a ledger of the test's own."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        settings = override_settings(
            ORDERS_LEDGER=Path(folder.name) / "ledger.jsonl",
            # What steps do takes real time: only waits are virtual.
            ORDERS_CARRIER_SECONDS=0,
            PAYMENTS_ANSWER_SECONDS=0,
        )
        settings.enable()
        self.addCleanup(settings.disable)
        self.lamp = Product.objects.create(sku="L-1", name="Lamp", price_cents=1990, stock=5)

    def order(self, **facts):
        return Order.objects.create(product=self.lamp, customer="ada@example.com", **facts)

    def fulfil(self, order, workflow=fulfil_order_async):
        return self.hookflow.run(workflow, data={"order_id": str(order.pk)}, run_id=order.run_id)


class PlacingTests(ShopMixin, TestCase):
    """What needs no payment: an ordinary TestCase, whose transaction is rolled back."""

    def test_the_page_places_an_order_and_starts_its_run(self):
        response = self.client.post(
            reverse("place"),
            {"product": self.lamp.pk, "quantity": 2, "workflow": "process_order"},
        )
        self.assertRedirects(response, reverse("home"))

        self.hookflow.drain()

        run = WorkflowRun.objects.get(run_id=Order.objects.get().run_id)
        self.assertEqual(run.status, "suspended")  # it waits for the payment to be due
        self.assertEqual(run.steps.get(step_id="validate").status, "completed")

    def test_an_order_that_is_rolled_back_has_no_run(self):
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            place_order(self.lamp, "process_order", customer="ada@example.com")
            raise ZeroDivisionError

        self.assertEqual(self.hookflow.drain(), 0)
        self.assertFalse(WorkflowRun.objects.exists())

    def test_more_than_there_is_fails_without_a_retry(self):
        run = self.fulfil(self.order(quantity=6))

        self.assertEqual(run.status, "failed")
        self.assertEqual(run.error["message"], "6 of 5 pieces are ordered")
        self.assertEqual(run.steps.get().attempts, 1)

    async def test_an_order_from_async_code(self):
        order = await aplace_order(self.lamp, "process_order", customer="ada@example.com")

        await self.hookflow.adrain()

        run = await WorkflowRun.objects.aget(run_id=order.run_id)
        self.assertEqual(run.status, "suspended")


class PaidShopMixin(ShopMixin):
    """With the payment API, which is this project's own, so it is served."""

    def setUp(self):
        super().setUp()
        url = override_settings(ORDERS_PAYMENTS_URL=f"{self.live_server_url}/payments/")
        url.enable()
        self.addCleanup(url.disable)


class FulfilmentTests(PaidShopMixin, LiveServerTestCase):
    """From the order to the parcel."""

    def test_an_order_becomes_a_parcel(self):
        order = self.order(quantity=2)
        begun = self.hookflow.now

        run = self.fulfil(order)

        self.assertEqual(run.status, "completed", run.error)
        self.assertEqual(run.result["tracking"], order.shipment.tracking)
        self.assertEqual([message.to for message in mail.outbox], [["ada@example.com"]])
        self.assertGreater(self.hookflow.now, begun)  # it was packed, in no time
        self.lamp.refresh_from_db()
        self.assertEqual(self.lamp.stock, 3)

    def test_a_declined_card_puts_the_pieces_back(self):
        run = self.fulfil(self.order(card="card-declined"))

        self.assertEqual(run.result["status"], "declined")
        self.lamp.refresh_from_db()
        self.assertEqual(self.lamp.stock, 5)

    def test_a_crash_after_the_charge_does_not_charge_twice(self):
        # The money is taken, and the process dies before the journal says so.
        self.hookflow.crash_before_record("charge")

        run = self.fulfil(self.order(), process_order)

        self.assertEqual(run.status, "completed", run.error)
        self.assertEqual(ApiRequest.objects.count(), 2)
        self.assertEqual(Charge.objects.count(), 1)  # both carried one idempotency key

    def test_a_crash_repeats_nothing_that_was_recorded(self):
        order = self.order()
        self.hookflow.crash_after("reserve")

        self.fulfil(order)

        self.assertEqual(set(ledger.bodies().values()), {1})

    def test_messages_that_come_twice_or_never(self):
        self.hookflow.duplicate_deliveries()
        self.hookflow.lose_next_message()

        self.assertEqual(self.fulfil(self.order()).status, "completed")

        self.assertEqual(Shipment.objects.count(), 1)
        self.assertEqual(len(mail.outbox), 1)
