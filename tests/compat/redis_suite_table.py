"""Makes a table from what redis_suite.sh left in its work directory: python3 redis_suite_table.py WORKDIR ROUTE..."""

import re
import sys
from pathlib import Path

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LINE = re.compile(r"^\[(ok|err|exception|TIMEOUT|skip|ignore)\]: (.*)$")


def outcome(path):
    """What became of each test of one unit: {name: "ok" | "err" | "skip"}, and what went wrong, in the suite's words."""
    tests, words = {}, []
    if not path.exists():
        return {"(not run)": "err"}, []
    lines = COLOUR.sub("", path.read_text(errors="replace")).splitlines()
    ended = any("The End" in line for line in lines)
    for at, line in enumerate(lines):
        if "The End" in line:
            break
        match = LINE.match(line)
        if not match:
            continue
        kind, name = match.groups()
        name = re.sub(r" \(\d+ ms\)$", "", name).split(" in tests/")[0]
        # Several tests may have one name: a failure is never hidden by a later one.
        state = {"ok": "ok", "skip": "skip", "ignore": "skip"}.get(kind, "err")
        if tests.get(name) != "err":
            tests[name] = state
        if state == "err":
            words.append(" | ".join([f"{kind}: {name}", *lines[at + 1 : at + 3]]))
    if not ended:
        tests["(unit did not end)"] = "err"
        words.append("did not end: " + " | ".join(lines[-6:]))
    return tests, words


def main():
    work, routes = Path(sys.argv[1]), sys.argv[2:]
    units = sorted(path.name for path in (work / routes[0] / "out").iterdir())
    print("| unit | " + " | ".join(routes) + " |")
    print("|---" * (len(routes) + 1) + "|")
    notes, sums = [], dict.fromkeys(routes, (0, 0))
    for unit in units:
        cells, first = [], None
        for route in routes:
            tests, words = outcome(work / route / "out" / unit)
            passed = sum(state == "ok" for state in tests.values())
            failed = sum(state == "err" for state in tests.values())
            skipped = len(tests) - passed - failed
            sums[route] = (sums[route][0] + passed, sums[route][1] + failed)
            words_of = [f"{passed}", f"{failed} failed" if failed else "", f"{skipped} skipped" if skipped else ""]
            cells.append(", ".join(word for word in words_of if word))
            if first is None:
                first = tests
            names = set(tests) | set(first)
            differing = sorted(name for name in names if tests.get(name) != first.get(name))
            if len(differing) > 12:
                notes.append(f"{unit}: {route}: {len(differing)} tests differ, among them:")
            for name in differing[:12]:
                notes.append(f"{unit}: {route}: {name}: {first.get(name)} directly, {tests.get(name)} here")
            notes.extend(f"{unit}: {route}: {word}" for word in words)
        print(f"| {unit.replace('_', '/', 1)} | " + " | ".join(cells) + " |")
    cells = [f"{passed}, {failed} failed" for passed, failed in sums.values()]
    print("| **all** | " + " | ".join(cells) + " |")
    print()
    print("\n".join(notes))


if __name__ == "__main__":
    main()
