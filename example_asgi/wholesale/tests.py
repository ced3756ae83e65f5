"""Large orders in tests: the link, the event, the run below and the undoing, in virtual time."""

import re

from django.core import mail
from django.test import LiveServerTestCase
from django.urls import reverse
from orders import ledger
from orders.models import Order, Reservation
from orders.tests import PaidShopMixin
from payments.models import Charge, Refund

from django_hookflow.models import WorkflowRun
from wholesale.models import Parcel
from wholesale.workflows import fulfil_large_order, ship_parcels


class LargeOrderTests(PaidShopMixin, LiveServerTestCase):
    def setUp(self):
        super().setUp()
        self.lamp.stock = 100
        self.lamp.save()

    def place(self, quantity):
        """A large order that waits for its approval; returns its run and its link."""
        self.placed = self.order(quantity=quantity)
        run = self.hookflow.trigger(
            fulfil_large_order, data={"order_id": str(self.placed.pk)}, run_id=self.placed.run_id
        )
        self.hookflow.drain()
        return run, re.search(r"http\S+", mail.outbox[-1].body)[0]

    def approve(self, url):
        self.hookflow.answer(url, {"confirmed": True})
        self.hookflow.drain()

    def pick_up(self):
        ship_parcels.runs.get().send_event("picked-up", {"driver": "Jo"})
        self.hookflow.drain()

    def stock(self):
        self.lamp.refresh_from_db()
        return self.lamp.stock

    def test_an_approved_order_goes_out_in_several_parcels(self):
        run, url = self.place(24)
        self.assertEqual(self.stock(), 100)  # nothing is done before somebody approves

        self.approve(url)
        self.assertEqual(Parcel.objects.count(), 3)
        self.pick_up()

        result = run.get_result()
        self.assertEqual(result["tracking"], [p.tracking for p in Parcel.objects.all()])
        self.assertEqual(result["driver"], "Jo")
        self.assertEqual(self.stock(), 76)
        self.assertEqual(Order.objects.get().status, "shipped")

    def test_a_driver_that_comes_early_is_not_forgotten(self):
        run, url = self.place(10)
        self.hookflow.answer(url, {"confirmed": True})
        self.hookflow.crash_after("pack")  # the run below is there, and does not wait yet
        self.hookflow.drain()
        ship_parcels.runs.get().send_event("picked-up", {"driver": "Jo"})
        self.hookflow.advance(minutes=5)

        self.assertEqual(run.get_result()["driver"], "Jo")

    def test_to_open_the_link_does_nothing(self):
        run, url = self.place(24)

        page = self.client.get(url)

        self.assertContains(page, f"Send order {self.placed.pk}, 24 pieces?")
        self.assertEqual(self.hookflow.drain(), 0)
        run.refresh_from_db()
        self.assertEqual(run.status, "suspended")

    def test_the_page_of_the_shop_shows_the_link_while_it_is_waited_for(self):
        _, url = self.place(24)
        self.assertContains(self.client.get(reverse("home")), url)

        self.approve(url)
        self.assertNotContains(self.client.get(reverse("home")), url)

    def test_an_order_that_nobody_approves_fails_and_costs_nothing(self):
        run, _ = self.place(24)

        self.hookflow.advance(days=8)

        run.refresh_from_db()
        self.assertEqual(run.status, "failed")
        self.assertEqual(Charge.objects.count(), 0)
        self.assertEqual(mail.outbox[-1].to, ["ada@example.com"])

    def test_what_was_done_is_undone_newest_first_when_the_carrier_says_no(self):
        run, url = self.place(35)

        self.approve(url)

        run.refresh_from_db()
        self.assertEqual(run.status, "failed")
        self.assertIn("the carrier takes 3 parcels", run.error["message"])
        steps = [step.partition("[")[0] for _, step in ledger.happened()]
        self.assertEqual(
            list(dict.fromkeys(steps))[-4:],
            ["undo book", "on_failure", "undo charge", "undo reserve"],
        )
        self.assertEqual(Refund.objects.get().amount_cents, Charge.objects.get().amount_cents)
        self.assertEqual(self.stock(), 100)
        self.assertFalse(Parcel.objects.exists() or Reservation.objects.exists())
        self.assertIn("cannot be sent", mail.outbox[-1].subject)

    def test_a_crash_in_the_refund_does_not_refund_twice(self):
        _, url = self.place(35)
        self.hookflow.answer(url, {"confirmed": True})
        # The money is on its way back, and the process dies before the journal says so.
        self.hookflow.crash_before_record("charge#1/undo")
        self.hookflow.advance(minutes=5)

        self.assertEqual(ledger.bodies()[str(self.placed.pk), "undo charge"], 2)
        self.assertEqual(Refund.objects.count(), 1)
        self.assertEqual(self.stock(), 100)

    def test_a_cancelled_order_is_undone_and_so_is_the_run_below(self):
        run, url = self.place(24)
        self.approve(url)
        self.assertEqual(self.stock(), 76)

        run.cancel()
        self.hookflow.drain()

        statuses = WorkflowRun.objects.values_list("status", flat=True)
        self.assertEqual(set(statuses), {"cancelled"})
        self.assertEqual(self.stock(), 100)
        self.assertEqual(Refund.objects.count(), 1)
        self.assertFalse(Parcel.objects.exists())

    def test_a_driver_who_never_comes(self):
        run, url = self.place(24)
        self.approve(url)

        self.hookflow.advance(days=4)

        run.refresh_from_db()
        self.assertEqual(run.status, "failed")
        self.assertEqual(self.stock(), 100)
