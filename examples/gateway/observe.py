#!/usr/bin/env python3
"""python3 examples/gateway/observe.py [--seconds 60] [--plot FILE]

Runs the gateway between callers and upstreams that have their troubles, lets a real Prometheus scrape it, and asks that
Prometheus every query of dashboard.json: each must have an answer that is not zero throughout. Checks the alert rules with
promtool. With --plot, draws the run as SVG, which needs matplotlib.
"""

import argparse
import http.client
import json
import math
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
# What a gateway without stores never tells.
NOT_HERE = {"tower_m2m_token_store_up", "tower_m2m_quota_store_up", "tower_m2m_remote_holds_total"}
TENANTS = {"acme": "#4c8bf5", "globex": "#e0873a"}
OUTCOMES = {
    "passed": "#4caf6d", "held": "#f0c75e", "limited": "#c9a227", "no_token": "#9a6ddb", "unauthorized": "#5f6b7a",
    "caller_left": "#a9b2bd",
}
REDS = ["#d9534f", "#8c2f39", "#e58a7b", "#b03a48"]


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--plot", type=pathlib.Path)
    options = options.parse_args()

    dashboard = json.loads((HERE / "dashboard.json").read_text())
    check_names(dashboard)
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
        subprocess.run(["promtool", *command], cwd=HERE, check=True)
    build = ["cargo", "build", "-q", "-p", "gateway", "--bin", "gateway", "--example", "troubled"]
    subprocess.run(build, cwd=ROOT, check=True)
    began, prometheus, stop = time.time(), f"127.0.0.1:{free_port()}", []
    with tempfile.TemporaryDirectory() as folder:
        try:
            run(pathlib.Path(folder), prometheus, options.seconds, stop)
            panels = ask(dashboard, prometheus, began, time.time())
            check_targets(prometheus)
        finally:
            for process in reversed(stop):
                process.terminate()
                process.wait()
    if options.plot:
        draw(panels, began, options.plot)
    missing = [query for _, _, queries in panels for query, lines in queries if not lines]
    for query in missing:
        print(f"nothing came of {query}")
    queries = sum(len(queries) for _, _, queries in panels)
    print(f"{queries - len(missing)} passed, {len(missing)} failed")
    sys.exit(1 if missing else 0)


def check_names(dashboard):
    """Every metric of the guide is on the dashboard, and the other way round."""
    guide = (ROOT / "src/docs/telemetry.md").read_text()
    listed = set(re.findall(r"^\| `(tower_m2m_\w+)` \| (?:counter|gauge|histogram)", guide, re.M)) - NOT_HERE
    shown = set(re.findall(r"tower_m2m_\w+?(?=_bucket|\W)", json.dumps(dashboard["panels"])))
    assert listed == shown, f"on one side only: {listed ^ shown}"


def run(folder, prometheus, seconds, stop):
    def start(*command, **more):
        stop.append(subprocess.Popen(command, **more))
        return stop[-1]

    target = json.loads(subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"], cwd=ROOT, check=True, stdout=subprocess.PIPE,
    ).stdout)["target_directory"]
    doubles = start(f"{target}/debug/examples/troubled", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    token_url, plenty, scarce = (doubles.stdout.readline().strip() for _ in range(3))
    port, admin = free_port(), free_port()
    tenants = "".join(
        f'[tenants.{name}]\nupstream = "{upstream}"\ncaller_keys = ["{name}-caller-key-1"]\n'
        f'[tenants.{name}.credentials]\ntoken_url = "{token_url}"\nclient_id = "{name}"\n'
        f'client_secret = "{name}-secret"\nclient_auth = "basic"\n'
        for name, upstream in (("acme", plenty), ("globex", scarce))
    )
    (folder / "gateway.toml").write_text(
        f'listen = "127.0.0.1:{port}"\nadmin_listen = "127.0.0.1:{admin}"\nmax_wait = 3\nreplay_budget = 100000\n'
        f'header_timeout = 2\nmax_connections_per_peer = 40\n{tenants}'
    )
    (folder / "prometheus.yml").write_text(
        f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{HERE.resolve()}/alerts.yml]\n"
        f"scrape_configs: [{{job_name: gateway, static_configs: [{{targets: ['127.0.0.1:{admin}']}}]}}]\n"
    )
    with open(folder / "log", "w") as log:
        start(f"{target}/debug/gateway", folder / "gateway.toml", stderr=log)
        start(
            "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={prometheus}", stderr=log,
        )
    wait_for(port)
    until = time.time() + seconds
    callers = [("acme", None, 0.05)] * 6 + [("globex", None, 0.3)] * 3 + [("acme", bytes(60_000), 0.3)] * 6
    threads = [threading.Thread(target=call, args=(port, *caller, until)) for caller in callers]
    threads += [threading.Thread(target=half, args=(port, until)), threading.Thread(target=leave, args=(port, until))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(2)


def call(port, tenant, body, pause, until):
    headers = {"authorization": f"Bearer {tenant}-caller-key-1"}
    while time.time() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("POST" if body else "GET", "/orders", body, headers)
            connection.getresponse().read()
        except OSError:
            # Refused, because there are too many connections.
            pass
        finally:
            connection.close()
        time.sleep(pause)


def half(port, until):
    """Heads that never end, and more connections than one peer may have."""
    while time.time() < until:
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
        for one in sockets:
            one.sendall(b"GET / HTTP/1.1\r\nhost: ")
        time.sleep(3)
        for one in sockets:
            one.close()
        time.sleep(2)


def leave(port, until):
    """A caller that does not wait for the answer."""
    while time.time() < until:
        with socket.create_connection(("127.0.0.1", port)) as one:
            one.sendall(b"GET /orders HTTP/1.1\r\nhost: a\r\nauthorization: Bearer acme-caller-key-1\r\n\r\n")
            time.sleep(0.01)
        time.sleep(0.5)


def check_targets(prometheus):
    targets = get(prometheus, "targets")["activeTargets"]
    assert [target["health"] for target in targets] == ["up"], targets
    rules = [rule for group in get(prometheus, "rules")["groups"] for rule in group["rules"]]
    assert rules and all(rule["health"] == "ok" for rule in rules), rules


def ask(dashboard, prometheus, began, ended):
    """Each panel's title and unit, and each of its queries with its lines: a name, and points."""
    panels = []
    for panel in dashboard["panels"]:
        queries = []
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "5s")
            found = get(prometheus, "query_range", query=query, start=began, end=ended, step=1)
            lines = []
            for series in found["result"]:
                points = [(at, float(value)) for at, value in series["values"]]
                points = [point for point in points if math.isfinite(point[1])]
                if any(value > 0 for _, value in points):
                    name = re.sub(r"{{(\w+)}}", lambda m: series["metric"].get(m[1], ""), target["legendFormat"])
                    lines.append((name.strip(), points))
            queries.append((target["expr"], lines))
            print(f"{len(lines):3} series  {target['expr']}")
        panels.append((panel["title"], panel["fieldConfig"]["defaults"]["unit"], queries))
    return panels


def get(prometheus, path, **query):
    with urllib.request.urlopen(f"http://{prometheus}/api/v1/{path}?{urllib.parse.urlencode(query)}") as response:
        return json.load(response)["data"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the gateway does not listen")


def draw(panels, began, path):
    """Four questions over one time axis. A tenant has the same colour everywhere, and red is what went wrong."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "run", "font.family": "sans-serif", "font.size": 11,
        # Legible on white and on black.
        **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"], "#848d97"),
        "axes.spines.top": False, "axes.spines.right": False, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "legend.frameon": False, "legend.fontsize": 10,
    })
    figure, axes = pyplot.subplots(4, 1, sharex=True, figsize=(9.5, 11), layout="constrained")
    lines = {title: [line for _, found in queries for line in found] for title, _, queries in panels}
    tenant_of = lambda name: next((tenant for tenant in TENANTS if tenant in name), None)
    seconds = lambda points: ([at - began for at, _ in points], [value for _, value in points])

    fast, passed, held, why = axes
    fast.set(title="Is it fast?", ylabel="time to response headers, s", yscale="log")
    for name, points in lines["Time to response headers"]:
        style = "-" if name.endswith("p50") else ":"
        fast.plot(*seconds(points), style, color=TENANTS[tenant_of(name)], label=name)

    passed.set(title="What do callers get?", ylabel="requests per second")
    outcomes = {}
    for name, points in lines["Requests by outcome"]:
        outcome = name.split()[-1]
        for at, value in points:
            outcomes.setdefault(outcome, {}).setdefault(round(at - began), 0)
            outcomes[outcome][round(at - began)] += value
    times = sorted({at for points in outcomes.values() for at in points})
    order = sorted(outcomes, key=lambda outcome: (outcome != "passed", outcome))
    others = iter(REDS)
    colours = [OUTCOMES.get(outcome) or next(others, REDS[0]) for outcome in order]
    stacked = [[outcomes[outcome].get(at, 0) for at in times] for outcome in order]
    passed.stackplot(times, stacked, labels=[outcome.replace("_", " ") for outcome in order], colors=colours)

    held.set(title="Is it held?", ylabel="requests that wait")
    for name, points in lines["Waiting and in flight"]:
        if name.endswith("waiting"):
            held.plot(*seconds(points), color=TENANTS[tenant_of(name)], label=name)
    for name, points in lines["Remaining hold time"]:
        for at, value in points:
            if value > 0:
                held.axvspan(at - began, at - began + 1, color=TENANTS[tenant_of(name)], alpha=0.15, linewidth=0)

    why.set(title="Why?", ylabel="per second", xlabel="seconds since the start")
    causes = {
        "429 of an upstream": "Throttling responses", "401 to a token": "401 responses to the token",
        "given up or not sent": "Retried, given up, not sent", "token request failed": "Token fetches",
    }
    for (label, title), colour in zip(causes.items(), ["#c9a227", "#5f6b7a", REDS[0], OUTCOMES["no_token"]]):
        sums = {}
        for name, points in lines[title]:
            if name.startswith("retried") or (title == "Token fetches" and " ok" in f" {name} "):
                continue
            for at, value in points:
                sums[round(at - began)] = sums.get(round(at - began), 0) + value
        if any(sums.values()):
            why.plot(*zip(*sorted(sums.items())), color=colour, label=label)
    for one in axes:
        one.margins(x=0)
        if one.get_yscale() != "log":
            one.set_ylim(bottom=0)
        one.grid(axis="y", alpha=0.25)
        one.legend(loc="upper left", bbox_to_anchor=(1, 1))
    held.plot([], [], color="#848d97", alpha=0.3, linewidth=8, label="held")
    held.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
