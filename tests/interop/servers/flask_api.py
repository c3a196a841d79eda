"""Flask-Limiter: five requests in ten seconds, for each path by itself; for gunicorn."""

from flask import Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from werkzeug.middleware.dispatcher import DispatcherMiddleware


def app(retry_after):
    app = Flask(__name__)
    limiter = Limiter(
        get_remote_address,
        app=app,
        headers_enabled=True,
        retry_after=retry_after,
        storage_uri="memory://",
    )
    for path in ["/orders"]:
        view = limiter.limit("5 per 10 seconds")(lambda: [])
        app.add_url_rule(path, path, view)
    return app


application = DispatcherMiddleware(app("delta-seconds"), {"/date": app("http-date")})
