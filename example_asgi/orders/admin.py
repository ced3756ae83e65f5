from django.contrib import admin

from orders.models import Order, Product, Reservation, Shipment


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ["sku", "name", "price_cents", "stock"]


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["__str__", "customer", "product", "quantity", "status", "placed_at"]
    list_filter = ["status"]
    list_select_related = ["product"]


@admin.register(Reservation)
class ReservationAdmin(admin.ModelAdmin):
    list_display = ["order", "product", "quantity", "made_at"]
    list_select_related = ["order", "product"]


@admin.register(Shipment)
class ShipmentAdmin(admin.ModelAdmin):
    list_display = ["order", "tracking", "shipped_at"]
    list_select_related = ["order"]
