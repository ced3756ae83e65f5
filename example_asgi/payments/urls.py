from django.urls import path

from payments.views import charges, refunds

urlpatterns = [
    path("charges/", charges, name="charges"),
    path("refunds/", refunds, name="refunds"),
]
