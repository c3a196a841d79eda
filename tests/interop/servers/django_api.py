"""django-oauth-toolkit as issuer and Django REST framework as API, in one process; for gunicorn."""

import os

import django
from django.conf import settings
from django.core.management import call_command
from django.urls import include, path

RUN = os.environ["INTEROP_RUN"]
SECRET = "a secret of more than thirty-two bytes"

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(RUN, "django.sqlite3"),
            "OPTIONS": {"timeout": 20},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "oauth2_provider",
        "rest_framework",
    ],
    MIDDLEWARE=[],
    # The tables are made from the models: that takes a tenth of the time.
    MIGRATION_MODULES=dict.fromkeys(["auth", "contenttypes", "oauth2_provider"]),
    OAUTH2_PROVIDER={
        "ACCESS_TOKEN_EXPIRE_SECONDS": lambda request: 2 if request.client_id == "short" else 3600,
        "SCOPES": {"orders.read": "read", "orders.write": "write"},
    },
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for tests",
    USE_TZ=True,
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from oauth2_provider.contrib.rest_framework import (  # noqa: E402
    OAuth2Authentication,
    TokenHasScope,
)
from oauth2_provider.models import get_application_model  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.throttling import AnonRateThrottle  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


class Orders(APIView):
    authentication_classes = [OAuth2Authentication]
    permission_classes = [TokenHasScope]
    required_scopes = ["orders.read"]

    def get(self, request):
        return Response([])


class Throttle(AnonRateThrottle):
    """Five requests in ten seconds."""

    rate = "5/10s"

    def parse_rate(self, rate):
        return 5, 10

    def get_cache_key(self, request, view):
        return request.path


class Throttled(APIView):
    authentication_classes = []
    throttle_classes = [Throttle]

    def get(self, request, path):
        return Response([])


class Admin(Orders):
    required_scopes = ["orders.write"]


urlpatterns = [
    path("orders", Orders.as_view()),
    path("admin", Admin.as_view()),
    path("throttled/<path>", Throttled.as_view()),
    path("", include("oauth2_provider.urls")),
]


def prepare():
    call_command("migrate", run_syncdb=True, verbosity=0)
    applications = get_application_model().objects
    clients = {"basic": SECRET, "post": SECRET, "short": SECRET, "odd id+%40": "p@ss w/rd+ %&=?"}
    for client_id, secret in clients.items():
        applications.create(
            client_id=client_id,
            client_secret=secret,
            client_type="confidential",
            authorization_grant_type="client-credentials",
        )


application = get_wsgi_application()
