"""Exit 1 if something that is installed has a known vulnerability; a plain line where the database can't be reached.

`ignored-vulnerabilities`, beside this file, has one a line: its id, then the reason why it does not touch us.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

_IGNORED = Path(__file__).with_name("ignored-vulnerabilities")
_TIMEOUT_S = 300


def _audited(*arguments: str) -> Sequence[dict[str, Any]] | None:
    """Return pip-audit's word on each dependency; None where it could not ask for any."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--timeout", "5", "--format", "json"]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return None
    return found if any("vulns" in dependency for dependency in found) else None


def _ignored() -> list[str]:
    ids: list[str] = []
    for line in _IGNORED.read_text().splitlines():
        vulnerability, _, reason = line.strip().partition(" ")
        if vulnerability and not vulnerability.startswith("#"):
            if not reason:
                sys.exit(f"{_IGNORED.name}: {vulnerability} needs a reason")
            ids.append(vulnerability)
    return ids


def main() -> None:
    """Ask for one package first: without a database it is refused in seconds, and all of them in minutes."""
    if find_spec("pip_audit") is None:
        sys.exit("pip-audit is not installed: make install")
    ignored = _ignored()
    with NamedTemporaryFile("w", suffix=".txt") as one:
        one.write("pip==24.0\n")
        one.flush()
        known = _audited("--no-deps", "--disable-pip", "--requirement", one.name)
    found = None if known is None else _audited("--skip-editable")
    if found is None:
        print("Dependencies not audited: the vulnerability database can't be reached from here")
        return
    bad = [
        f"{dependency['name']} {dependency['version']}: {vulnerability['id']}, mended in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for dependency in found
        for vulnerability in dependency.get("vulns", ())
        if not {vulnerability["id"], *vulnerability["aliases"]} & set(ignored)
    ]
    print("\n".join(bad) or f"No known vulnerability in {len(found)} dependencies")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
