import secrets

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Fill the shelves, and make a login for the admin."

    def add_arguments(self, parser):
        parser.add_argument("--password", help="of the login (default: a random one, printed)")

    def handle(self, *, password=None, verbosity=1, **options):
        call_command("loaddata", "catalogue", verbosity=0)
        chosen = password or secrets.token_urlsafe(9)
        users = get_user_model()._default_manager
        user, _ = users.get_or_create(
            username="demo",
            defaults={"email": "demo@example.com", "is_staff": True, "is_superuser": True},
        )
        user.set_password(chosen)
        user.save()
        if verbosity:
            self.stdout.write(f"Login of the admin: demo, password {chosen}")
