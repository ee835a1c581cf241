"""Hold pyright's errors against the list of those that are left, which may only become shorter.

    python .ci/types.py [--write]

Exits with 1 if a file has more errors than .ci/types.json allows, or fewer: then --write takes the new, smaller number. It never takes
a larger one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / ".ci" / "types.json"


def main() -> int:
    done = subprocess.run(["pyright", "--outputjson"], cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        print(f"pyright gave no report:\n{done.stdout[-2000:]}{done.stderr[-2000:]}", file=sys.stderr)
        return 1
    errors = [each for each in report["generalDiagnostics"] if each["severity"] == "error"]
    found = Counter(Path(each["file"]).resolve().relative_to(ROOT).as_posix() for each in errors)
    allowed = json.loads(BASELINE.read_text("utf-8")) if BASELINE.exists() else dict(found)
    more = {name for name, count in found.items() if count > allowed.get(name, 0)}
    for each in errors:
        name = Path(each["file"]).resolve().relative_to(ROOT).as_posix()
        if name in more:
            line = each["range"]["start"]["line"] + 1
            print(f"{name}:{line}: {each['message'].splitlines()[0]} ({each.get('rule', '')})", file=sys.stderr)
    for name in sorted(more):
        print(f"{name}: {found[name]} type errors, {allowed.get(name, 0)} allowed; mend the new ones", file=sys.stderr)
    fewer = {name: count for name, count in allowed.items() if found.get(name, 0) < count}
    if more:
        return 1
    if "--write" in sys.argv[1:]:
        BASELINE.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n", "utf-8")
    elif fewer:
        print(f"fewer type errors than allowed in {', '.join(sorted(fewer))}; python .ci/types.py --write", file=sys.stderr)
        return 1
    print(f"pyright: {sum(found.values())} errors, as many as allowed, in {len(found)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
