"""One process with threads, on a free port that is told in the file named by INTEROP_FILE."""

import json
import os

bind = "127.0.0.1:0"
workers = 1
# A thread is held by each connection that has not sent anything yet, and clients with a pool open some in advance.
threads = 64
control_socket_disable = True
preload_app = True


def on_starting(server):
    prepare = getattr(__import__(os.environ["INTEROP_APP"]), "prepare", None)
    if prepare:
        prepare()


def when_ready(server):
    host, port = server.LISTENERS[0].sock.getsockname()
    origin = f"http://{host}:{port}"
    file = os.environ["INTEROP_FILE"]
    with open(file + ".new", "w") as out:
        json.dump({"issuer": origin, "api": origin}, out)
    os.rename(file + ".new", file)
