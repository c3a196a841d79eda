#!/usr/bin/env python3
"""python3 examples/gateway/load.py [--pairs 11] [--seconds 4] [--connections 32] [--perf FILE]

Measures what the layers cost the gateway: pairs of runs under wrk, with the tenant `acme`, and with the tenant `plain`, which is the
same without tower-m2m's layers. Prints the table of the README. With --perf, records a profile of the gateway under `acme`.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
# Ratios of the goals: at least, at most.
GOALS = {"throughput": ">= 0.95", "p50": "<= 1.05", "CPU time": "<= 1.08"}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=11)
    options.add_argument("--seconds", type=int, default=4)
    options.add_argument("--connections", type=int, default=32)
    options.add_argument("--perf", type=pathlib.Path)
    options = options.parse_args()

    build = ["cargo", "build", "--release", "-q", "-p", "gateway", "--bin", "gateway", "--example", "upstream"]
    subprocess.run(build, cwd=ROOT, check=True)
    metadata = ["cargo", "metadata", "--no-deps", "--format-version", "1"]
    metadata = subprocess.run(metadata, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    release = pathlib.Path(json.loads(metadata)["target_directory"]) / "release"
    upstream = subprocess.Popen([release / "examples/upstream"])
    gateway = subprocess.Popen(
        [release / "gateway", HERE / "gateway.toml"], env={**os.environ, "GATEWAY_LOG": "error"}
    )
    try:
        wait_until_ready()
        if options.perf:
            profile(gateway.pid, options)
        else:
            print_table(measure_pairs(gateway.pid, options), options)
    finally:
        for process in (gateway, upstream):
            process.terminate()
            process.wait()


def wait_until_ready():
    for _ in range(100):
        try:
            urllib.request.urlopen("http://127.0.0.1:9090/readyz", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("the gateway did not become ready within 10 s")


def profile(pid, options):
    load("acme", options)
    record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "4999", "-g", "-p", str(pid), "-o", options.perf]
    recorder = subprocess.Popen(record)
    load("acme", options)
    recorder.terminate()
    recorder.wait()


def measure_pairs(pid, options):
    """The order within a pair alternates, so that a machine that becomes slower favours neither tenant."""
    for tenant in ("plain", "acme"):
        measure(pid, tenant, options)
    pairs = []
    for pair in range(options.pairs):
        order = ("plain", "acme") if pair % 2 == 0 else ("acme", "plain")
        pairs.append({tenant: measure(pid, tenant, options) for tenant in order})
        print(f"\rpair {pair + 1} of {options.pairs}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return pairs


def measure(pid, tenant, options):
    before = cpu_time(pid)
    requests, seconds, percentiles = load(tenant, options)
    cpu = (cpu_time(pid) - before) / requests
    return {
        "throughput": requests / seconds,
        "p50": percentiles["50"],
        "p99": percentiles["99"],
        "CPU time": cpu * 1e6,
    }


def load(tenant, options):
    command = [
        "wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency",
        "-H", f"authorization: Bearer {tenant}-caller-key-1", "http://127.0.0.1:8080/orders",
    ]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    failed = re.search(r"Non-2xx.*|Socket errors.*", output)
    if failed:
        sys.exit(f"{tenant}: {failed.group()}")
    requests, seconds, unit = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", output).groups()
    percentiles = {
        name: float(value) * UNITS[unit] for name, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)\b", output)
    }
    return int(requests), float(seconds) * UNITS[unit] / 1e3, percentiles


def cpu_time(pid):
    """Seconds in user mode and in the kernel."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def print_table(pairs, options):
    names = list(pairs[0]["acme"])
    formats = {"throughput": "{:,.0f} /s", "p50": "{:.2f} ms", "p99": "{:.2f} ms", "CPU time": "{:.1f} µs"}
    print(f"medians of {options.pairs} pairs of runs of {options.seconds} s, {options.connections} connections\n")
    print("| | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    for tenant in ("plain", "acme"):
        cells = (formats[name].format(statistics.median(pair[tenant][name] for pair in pairs)) for name in names)
        print(f"| `{tenant}` | " + " | ".join(cells) + " |")
    ratios = {name: [pair["acme"][name] / pair["plain"][name] for pair in pairs] for name in names}
    cells = (f"{statistics.median(all):.2f} ({min(all):.2f} to {max(all):.2f})" for all in ratios.values())
    print("| `acme` ÷ `plain`, of each pair | " + " | ".join(cells) + " |")
    print("| goal | " + " | ".join(GOALS.get(name, "") for name in names) + " |")


if __name__ == "__main__":
    main()
