from django.contrib import admin

from payments.models import ApiRequest, Charge, Refund


class Books(admin.ModelAdmin):
    """To be read only: these are somebody else's books."""

    def has_add_permission(self, request):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False


@admin.register(Charge)
class ChargeAdmin(Books):
    list_display = ["order", "amount_cents", "card", "paid", "made_at", "key"]


@admin.register(Refund)
class RefundAdmin(Books):
    list_display = ["order", "amount_cents", "made_at", "key"]


@admin.register(ApiRequest)
class ApiRequestAdmin(Books):
    list_display = ["order", "answer", "at", "key"]
