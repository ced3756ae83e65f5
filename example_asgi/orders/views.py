"""One page: the orders, the runs that fulfil them, and a button for one more.

It shows the warehouse's links too, so that whoever looks at the demo can play the warehouse. A
real shop only mails them: who has a link can answer.
"""

from django import forms
from django.contrib import messages
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe
from payments.models import Charge

from django_hookflow.models import WorkflowRun
from orders.models import Order, Product
from orders.placing import WORKFLOWS, place_order

SHOWN = 25


class OrderForm(forms.Form):
    product = forms.ModelChoiceField(Product.objects.all(), empty_label=None)
    quantity = forms.IntegerField(min_value=1, max_value=99, initial=1)
    workflow = forms.ChoiceField(choices=[(name, name) for name in WORKFLOWS])


@require_safe
def home(request):
    return _page(request, OrderForm())


@require_POST
def place(request):
    form = OrderForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    chosen = form.cleaned_data
    order = place_order(
        chosen["product"], chosen["workflow"], quantity=chosen["quantity"],
        customer="visitor@example.com",
    )  # fmt: skip
    messages.success(request, f"Order {order.pk} is placed; its run is {order.run_id}.")
    return redirect("home")


def _link(run):
    """The link that a run has mailed and waits for, if it does."""
    steps = {step.step_id: step for step in run.steps.all()}
    waits = {"ask", "approve"} <= steps.keys() and steps["approve"].status == "pending"
    return steps["ask"].result if waits and run.finished_at is None else None


def _page(request, form, status=200):
    orders = list(Order.objects.select_related("product", "shipment")[:SHOWN])
    runs = list(WorkflowRun.objects.prefetch_related("steps")[:SHOWN])
    charges = list(Charge.objects.filter(order__in=[str(order.pk) for order in orders], paid=True))
    for order in orders:
        order.charges = [charge for charge in charges if charge.order == str(order.pk)]
    for run in runs:
        run.link = _link(run)
    context = {"form": form, "orders": orders, "runs": runs, "products": Product.objects.all()}
    return render(request, "orders/home.html", context, status=status)
