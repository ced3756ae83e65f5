"""The shop's own tables. The journal is not among them: it belongs to ``django_hookflow``."""

from django.db import models
from django.urls import reverse


class Product(models.Model):
    sku = models.CharField("SKU", max_length=20, unique=True)
    name = models.CharField(max_length=100)
    price_cents = models.PositiveIntegerField()
    stock = models.PositiveIntegerField()  # the database itself refuses a negative one

    class Meta:
        ordering = ["sku"]

    def __str__(self):
        return self.name


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        SHIPPED = "shipped"
        DECLINED = "declined"
        FAILED = "failed"

    customer = models.EmailField()
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="orders")
    quantity = models.PositiveIntegerField(default=1)
    card = models.CharField(max_length=40, default="card-ok")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PLACED)
    placed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self):
        return f"order {self.pk}"

    def get_absolute_url(self):
        return f"{reverse('home')}#order-{self.pk}"

    @property
    def run_id(self):
        """The run that fulfils it: the same id twice starts nothing twice."""
        return f"order-{self.pk}"

    @property
    def total_cents(self):
        return self.product.price_cents * self.quantity


class Reservation(models.Model):
    """Stock that was taken off the shelf for an order."""

    order = models.OneToOneField(Order, on_delete=models.CASCADE)
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()
    made_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return f"{self.quantity} x {self.product} for {self.order}"


class Shipment(models.Model):
    order = models.OneToOneField(Order, on_delete=models.CASCADE)
    tracking = models.CharField(max_length=40)
    shipped_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.tracking
