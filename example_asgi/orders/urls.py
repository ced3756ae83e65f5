from django.urls import path

from orders.views import home, place

urlpatterns = [
    path("", home, name="home"),
    path("place/", place, name="place"),
]
