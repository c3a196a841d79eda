#!/usr/bin/env python3
"""Fails when something public has no example: `python3 tests/api/examples.py target/doc/tower_m2m.json`.

Methods, variants and fields are shown by the examples of their types. Reads what rustdoc has written as JSON; `.ci/public_api`
runs it.
"""

import json
import sys

HAVE_EXAMPLES = {"constant", "enum", "function", "macro", "struct", "trait", "type_alias", "union"}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        crate = json.load(file)
    items = crate["index"]
    seen, lacking = set(), []
    ways = [(crate["root"], "")]
    while ways:
        number, path = ways.pop()
        item = items.get(str(number))
        # Other crates' items are not in the index.
        if item is None or number in seen:
            continue
        seen.add(number)
        kind, inner = next(iter(item["inner"].items()))
        name = f"{path}{item['name']}"
        if kind == "module":
            ways += [(child, f"{name}::") for child in inner["items"]]
        elif kind == "use":
            ways.append((inner["id"], path))
        elif kind in HAVE_EXAMPLES and "```" not in (item["docs"] or ""):
            lacking.append(f"{name}, {item['span']['filename']}:{item['span']['begin'][0]}")
    if len(seen) < 100:
        sys.exit(f"only {len(seen)} public items were found in {sys.argv[1]}")
    if lacking:
        sys.exit("without an example:\n  " + "\n  ".join(sorted(lacking)))


if __name__ == "__main__":
    main()
