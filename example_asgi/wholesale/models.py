"""What the carrier has of us. A large order goes out in several parcels."""

from django.db import models
from orders.models import Order


class Parcel(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="parcels")
    number = models.PositiveSmallIntegerField()
    pieces = models.PositiveIntegerField()
    tracking = models.CharField(max_length=40)

    class Meta:
        ordering = ["order", "number"]
        constraints = [models.UniqueConstraint(fields=["order", "number"], name="parcel_once")]

    def __str__(self):
        return f"parcel {self.number} of {self.order}: {self.tracking}"
