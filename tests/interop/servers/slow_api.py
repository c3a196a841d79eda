"""slowapi: five requests in ten seconds, for each path by itself; under uvicorn."""

import json
import os
import socket
import sys

import uvicorn
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

limiter = Limiter(key_func=get_remote_address, headers_enabled=True)


@limiter.limit("5 per 10 seconds")
def orders(request):
    return JSONResponse([])


app = Starlette(routes=[Route("/{path}", orders)])
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

listener = socket.create_server(("127.0.0.1", 0))
host, port = listener.getsockname()
file = sys.argv[1]
with open(file + ".new", "w") as out:
    json.dump({"api": f"http://{host}:{port}"}, out)
os.rename(file + ".new", file)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
