#!/usr/bin/env python3
"""Fails when the public API names a foreign type that is not allowed: `python3 tests/api/external_types.py
target/doc/tower_m2m.json`.

The allowed ones are in Cargo.toml, `[package.metadata.cargo_check_external_types]`, the list of `cargo check-external-types`;
std is always allowed. Fails as well for an entry that nothing needs. Reads what rustdoc has written as JSON: signatures, fields,
bounds, associated types, re-exports and trait implementations of all public items. `.ci/public_api` runs it.
"""

import fnmatch
import json
import sys
import tomllib

STD = {"alloc", "core", "proc_macro", "std"}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        crate = json.load(file)
    with open("Cargo.toml", "rb") as file:
        metadata = tomllib.load(file)["package"]["metadata"]
    allowed = metadata["cargo_check_external_types"]["allowed_external_types"]

    found = foreign_types(crate)
    if len(found) < 10:
        sys.exit(f"only {len(found)} foreign types were found in {sys.argv[1]}")
    needed = {entry for entry in allowed for path in found if fnmatch.fnmatchcase(path, entry)}
    forbidden = {
        path: places
        for path, places in found.items()
        if not any(fnmatch.fnmatchcase(path, entry) for entry in allowed)
    }
    if forbidden:
        lines = (f"{path}, in {', '.join(sorted(places)[:3])}" for path, places in forbidden.items())
        sys.exit("foreign types in the public API that Cargo.toml does not allow:\n  " + "\n  ".join(sorted(lines)))
    if unused := set(allowed) - needed:
        sys.exit("Cargo.toml allows foreign types that are not in the public API: " + ", ".join(sorted(unused)))


def foreign_types(crate: dict) -> dict[str, set[str]]:
    """The path of each foreign type and trait, with the items that name it."""
    items, paths = crate["index"], crate["paths"]
    found: dict[str, set[str]] = {}

    def note(number: int, place: str) -> None:
        known = paths.get(str(number))
        if known is not None and known["crate_id"] != 0 and known["path"][0] not in STD:
            found.setdefault("::".join(known["path"]), set()).add(place)

    def scan(part: object, place: str) -> None:
        """Notes each type and trait that a signature names."""
        if isinstance(part, dict):
            if isinstance(part.get("id"), int):
                note(part["id"], place)
            for inner in part.values():
                scan(inner, place)
        elif isinstance(part, list):
            for inner in part:
                scan(inner, place)

    seen = set()
    ways = [(crate["root"], "")]
    while ways:
        number, path = ways.pop()
        item = items.get(str(number))
        if item is None:
            # Another crate's, which a `use` makes public here.
            note(number, path or "the root")
            continue
        if number in seen:
            continue
        seen.add(number)
        kind, inner = next(iter(item["inner"].items()))
        name = "::".join(filter(None, [path, item["name"]]))
        if kind == "impl":
            # Those of auto traits and blankets are std's or the other crate's.
            if inner["is_synthetic"] or inner["blanket_impl"] is not None:
                continue
        if kind == "use":
            if inner["id"] is not None:
                ways.append((inner["id"], path))
            continue
        scan(inner, name)
        ways += [(child, name) for child in children(kind, inner)]
    if len(seen) < 1000:
        sys.exit(f"only {len(seen)} public items were found")
    return found


def children(kind: str, inner: dict) -> list[int]:
    """The items that belong to an item."""
    numbers = [*inner.get("items", []), *inner.get("impls", []), *inner.get("variants", [])]
    numbers += inner.get("implementations", [])
    shape = inner.get("kind")
    if kind == "struct" and isinstance(shape, dict):
        numbers += shape.get("plain", {}).get("fields", [])
        numbers += [field for field in shape.get("tuple", []) if field is not None]
    if kind == "variant" and isinstance(shape, dict):
        numbers += shape.get("struct", {}).get("fields", [])
        numbers += [field for field in shape.get("tuple", []) if field is not None]
    if kind == "union":
        numbers += inner.get("fields", [])
    return numbers


if __name__ == "__main__":
    main()
