"""Ask for known vulnerabilities of the pins (`make audit`): pip-audit on the locks, with the network.

The exit status is 0 only if an advisory database knew every package and no vulnerability of it: pip-audit itself ends
well, and says that it found nothing, where it could look up nothing.
"""

import json
import subprocess
import sys
from pathlib import Path

from lock import LOCKS


def verdict(text: str, errors: str) -> tuple[list[str], int]:
    """Return what to print, and the exit status, from pip-audit's JSON and what it wrote to stderr."""
    try:
        packages = json.loads(text)["dependencies"]
    except (ValueError, KeyError):
        reason = errors.strip().rpartition("\n")[2] or "it wrote nothing"
        return [f"Not audited: no advisory database was reached; run this with the network ({reason[:200]})"], 2
    unknown = [one for one in packages if "vulns" not in one]
    lines = []
    for one in packages:
        for found in one.get("vulns", []):
            names = ", ".join([found["id"], *found.get("aliases", [])])
            fixed = ", ".join(found.get("fix_versions", [])) or "no release yet"
            lines.append(f"{one['name']} {one['version']}: {names}; fixed in {fixed}")
    if not packages or len(unknown) == len(packages):
        return ["Not audited: the advisory database knew none of the packages; run this with the network"], 2
    if unknown:
        names = ", ".join(one["name"] for one in unknown)
        lines.append(
            f"Not audited: {len(unknown)} of {len(packages)} packages, which the database does not know: {names}"
        )
    known = len(packages) - len(unknown)
    return lines or [f"{known} packages: no known vulnerability"], 1 if lines else 0


def main() -> None:
    """Run pip-audit and say what it found."""
    call = [Path(sys.executable).with_name("pip-audit"), "--disable-pip", "--require-hashes", "--format", "json"]
    call += ["--progress-spinner", "off", "--desc", "off", "--aliases", "on"]
    for part in ("default", "torch"):
        call += ["--requirement", LOCKS / f"{part}.lock"]
    done = subprocess.run(call, capture_output=True, text=True)
    lines, status = verdict(done.stdout, done.stderr)
    print("\n".join(lines), file=sys.stderr if status else sys.stdout)
    sys.exit(status)


if __name__ == "__main__":
    main()
