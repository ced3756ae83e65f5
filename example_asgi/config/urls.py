from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("orders.urls")),
    path("payments/", include("payments.urls")),
    # QStash calls it: what stands here is DJANGO_HOOKFLOW_WEBHOOK_PATH.
    path("hookflow/", include("django_hookflow.urls")),
    path("admin/", admin.site.urls),
]
