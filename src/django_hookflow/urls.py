"""Include it where ``DJANGO_HOOKFLOW_WEBHOOK_PATH`` says: ``path("hookflow/", include(...))``."""

from django.urls import path

from django_hookflow.answering import callback
from django_hookflow.views import webhook

app_name = "django_hookflow"

urlpatterns = [
    path("", webhook, name="webhook"),
    path("callback/<str:token>/", callback, name="callback"),
]
