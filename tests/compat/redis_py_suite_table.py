"""Makes a table from what redis_py_suite.sh left: python3 redis_py_suite_table.py WORKDIR "PROTOCOLS" ROUTE..."""

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

# Differences that are printed for each route; more of them mean that something else is wrong.
MOST = 60


def outcome(folder):
    """What became of each test: {"module::name": ("passed" | "failed" | "skipped", words)}."""
    found = {}
    for path in sorted(folder.glob("*.out")):
        results = path.with_suffix(".xml")
        if not results.exists():
            found[f"{path.stem}::(did not end)"] = ("failed", path.read_text(errors="replace")[-200:].replace("\n", " | "))
            continue
        for case in ET.parse(results).getroot().iter("testcase"):
            state, words = "passed", ""
            for part in case:
                if part.tag in ("failure", "error"):
                    state, words = "failed", (part.get("message") or "").replace("\n", " | ")[:300]
                elif part.tag == "skipped" and state == "passed":
                    state = "skipped"
            found[f"{case.get('classname')}::{case.get('name')}"] = (state, words)
    return found


def main():
    work, protocols, routes = Path(sys.argv[1]), sys.argv[2].split(), sys.argv[3:]
    print("| protocol | route | passed | failed | skipped |\n|---|---|---|---|---|")
    notes = []
    for protocol in protocols:
        first = None
        for route in routes:
            tests = outcome(work / route / f"resp{protocol}")
            sums = [sum(state == kind for state, _ in tests.values()) for kind in ("passed", "failed", "skipped")]
            print(f"| RESP{protocol} | {route} | " + " | ".join(map(str, sums)) + " |")
            if first is None:
                first = tests
                notes.extend(f"RESP{protocol}: {route}: failed: {name}: {words}"
                             for name, (state, words) in sorted(tests.items()) if state == "failed")
            missing = ("not run", "")
            names = sorted(set(first) | set(tests))
            pairs = [(name, first.get(name, missing), tests.get(name, missing)) for name in names]
            differing = [(name, there, here) for name, there, here in pairs if there[0] != here[0]]
            notes.append(f"RESP{protocol}: {route}: {len(differing)} differ")
            for name, there, here in differing[:MOST]:
                notes.append(f"  {name}: {there[0]} directly, {here[0]} here: {here[1] or there[1]}")
    print()
    print("\n".join(notes))


if __name__ == "__main__":
    main()
