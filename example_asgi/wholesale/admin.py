from django.contrib import admin

from wholesale.models import Parcel


@admin.register(Parcel)
class ParcelAdmin(admin.ModelAdmin):
    list_display = ["order", "number", "pieces", "tracking"]
    list_select_related = ["order"]
