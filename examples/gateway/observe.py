#!/usr/bin/env python3
"""python3 examples/gateway/observe.py [--seconds 60] [--plot FILE]

Runs the gateway between callers and upstreams that have their troubles, lets a real Prometheus scrape it, and asks that
Prometheus every query of dashboard.json: each must have an answer that is not zero throughout. Checks the alert rules with
promtool. With --plot, draws the run as SVG.
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
from html import escape

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
# What a gateway without stores never tells.
NOT_HERE = {"tower_m2m_token_store_up", "tower_m2m_quota_store_up", "tower_m2m_remote_holds_total"}
COLOURS = ["#3b6fb6", "#d1652a", "#3c9a5f", "#9a4fb0", "#b8433f", "#6b6b6b", "#c79a2b", "#2a9aa8"]


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
        options.plot.write_text(draw(panels, began))
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


def draw(panels, began):
    width, height, gap = 440, 190, 20
    rows = (len(panels) + 1) // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width + 3 * gap} {rows * (height + gap) + gap}" '
        'font-family="sans-serif" font-size="10"><rect width="100%" height="100%" fill="white"/>'
    ]
    # Ports differ from run to run.
    tidy = lambda name: re.sub(r"http://127\.0\.0\.1:\d+ as |127\.0\.0\.1:\d+", "", name) or "all"
    for index, (title, unit, queries) in enumerate(panels):
        x, y = gap + index % 2 * (width + gap), gap + index // 2 * (height + gap)
        lines = [line for _, lines in queries for line in lines]
        top = max((value for _, points in lines for _, value in points), default=1) or 1
        last = max((at for _, points in lines for at, _ in points), default=began + 1)
        left, bottom, right, up = x + 40, y + height - 40, x + width - 5, y + 22
        place = lambda at, value: (
            f"{left + (at - began) / (last - began) * (right - left):.1f},{bottom - value / top * (bottom - up):.1f}"
        )
        parts.append(f'<text x="{x}" y="{y + 10}" font-weight="bold">{escape(title)}</text>')
        parts.append(f'<path d="M{left},{up}V{bottom}H{right}" fill="none" stroke="#999"/>')
        parts.append(f'<text x="{left - 4}" y="{up + 4}" text-anchor="end">{top:.3g}</text>')
        parts.append(f'<text x="{left - 4}" y="{bottom}" text-anchor="end">0 {escape(unit)}</text>')
        parts.append(f'<text x="{right}" y="{bottom + 11}" text-anchor="end">{last - began:.0f} s</text>')
        for number, (name, points) in enumerate(lines):
            colour = COLOURS[number % len(COLOURS)]
            path, previous = "", None
            for at, value in points:
                joined = previous is not None and at - previous < 1.5
                path += ("L" if joined else "M") + place(at, max(value, 0))
                previous = at
            parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.3" stroke-linecap="round"/>')
            across, down = number % 4, number // 4
            parts.append(
                f'<text x="{x + across * 110}" y="{bottom + 22 + down * 11}" fill="{colour}">{escape(tidy(name)[:21])}</text>'
            )
    return "\n".join(parts) + "</svg>\n"


if __name__ == "__main__":
    main()
