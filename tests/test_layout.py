"""The rules of the layout: packages, the direction of imports, where the environment is read, sizes."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "monitoring", "models", "streams", "topology")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

DURABLE = ROOT / "models" / "durable.py"  # fsync lives in os


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_comes_before_them(package: str) -> None:
    later = set(PACKAGES[PACKAGES.index(package) + 1 :])
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        if path.relative_to(ROOT).parts[0] == package
        for name in imports(path)
        if name.partition(".")[0] in later
    }
    assert wrong == set()


def test_stages_know_neither_faust_nor_kafka_clients_nor_settings() -> None:
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        if path.relative_to(ROOT).parts[0] in ("schemas", "models", "streams")
        for name in imports(path)
        if name.partition(".")[0] in ("faust", "aiokafka", "confluent_kafka", "os") and (path, name) != (DURABLE, "os")
    }
    assert wrong == set()


def test_only_the_settings_and_the_command_line_import_os() -> None:
    allowed = {ROOT / "topology" / "settings.py", ROOT / "topology" / "cli.py", DURABLE}
    assert [path for path in FILES if path not in allowed and "os" in imports(path)] == []


def test_no_file_is_longer_than_400_lines() -> None:
    long = [str(path) for path in FILES if len(path.read_text().splitlines()) > 400]
    assert long == []
