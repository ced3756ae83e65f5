"""The provider's own books. The shop never writes here; it only asks over HTTP."""

from django.db import models


class Charge(models.Model):
    """What was asked for under one idempotency key, and the answer to it, for ever."""

    key = models.CharField(max_length=200, unique=True)
    order = models.CharField(max_length=40)
    amount_cents = models.PositiveIntegerField()
    card = models.CharField(max_length=40)
    paid = models.BooleanField()
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self):
        return f"{self.amount} for order {self.order}"

    @property
    def amount(self):
        return f"{self.amount_cents / 100:.2f} EUR"


class Refund(models.Model):
    """What was given back under one idempotency key: all that an order had paid until then."""

    key = models.CharField(max_length=200, unique=True)
    order = models.CharField(max_length=40)
    amount_cents = models.PositiveIntegerField()
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self):
        return f"{self.amount_cents / 100:.2f} EUR back for order {self.order}"


class ApiRequest(models.Model):
    """One request for a charge that arrived, whatever became of it."""

    key = models.CharField(max_length=200)
    order = models.CharField(max_length=40)
    answer = models.PositiveSmallIntegerField(null=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self):
        return f"order {self.order}: {self.answer}"
