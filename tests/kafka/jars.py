"""The jars of Apache Kafka, from Maven: `python -m tests.kafka.jars` exits 1 with one line where they can't be had."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from shutil import which

_POM = Path(__file__).with_name("pom.xml")
_CACHE = Path.home() / ".cache" / "vibestream"
_RESOLVE_S = 600.0


class JarsMissing(Exception):
    """No Java, no Maven, or Maven can't resolve the jars."""


def classpath() -> str:
    """Return the class path of Kafka; Maven is asked only the first time, and its own repository keeps the jars."""
    for tool in ("java", "mvn"):
        if which(tool) is None:
            raise JarsMissing(f"Apache Kafka needs {tool}; install Java 17 or newer, and Maven")
    known = _CACHE / f"kafka-{sha256(_POM.read_bytes()).hexdigest()[:16]}.classpath"
    if known.exists():
        found = known.read_text().strip()
        if all(Path(jar).exists() for jar in found.split(":")):
            return found
    _CACHE.mkdir(parents=True, exist_ok=True)
    goal = ["dependency:build-classpath", f"-Dmdep.outputFile={known}"]
    try:
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", str(_POM), *goal],
            capture_output=True, text=True, timeout=_RESOLVE_S, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise JarsMissing(f"Maven did not resolve the jars within {_RESOLVE_S:.0f} s") from error
    if done.returncode != 0:
        raise JarsMissing(f"Maven can't resolve the jars: {(done.stdout.strip() or done.stderr).splitlines()[0]}")
    return known.read_text().strip()


if __name__ == "__main__":
    try:
        classpath()
    except JarsMissing as missing:
        sys.exit(str(missing))
