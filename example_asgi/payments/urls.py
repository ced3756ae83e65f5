from django.urls import path

from payments.views import charges

urlpatterns = [path("charges/", charges, name="charges")]
