"""Builds that are broken on purpose: copies of the packages with one statement that does not belong there."""

import ast
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "monitoring", "models", "streams", "topology")


@dataclass(frozen=True)
class Inserted:
    """A statement as the first of a function; `function` is a path of names."""

    file: str
    function: str
    statement: str

    def applied(self, source: str) -> str:
        body: Sequence[ast.stmt] = ast.parse(source).body
        for name in self.function.split("."):
            body = next(node.body for node in body if getattr(node, "name", None) == name and hasattr(node, "body"))
        first = body[1] if ast.get_docstring(ast.Module(list(body), [])) is not None else body[0]
        lines = source.splitlines(keepends=True)
        lines.insert(first.lineno - 1, " " * first.col_offset + self.statement + "\n")
        return "".join(lines)


@dataclass(frozen=True)
class Replaced:
    """A text that stands in a file once, replaced."""

    file: str
    old: str
    new: str

    def applied(self, source: str) -> str:
        assert source.count(self.old) == 1, f"{self.file} has {source.count(self.old)} of {self.old!r}: choose another"
        return source.replace(self.old, self.new)


def make_build(folder: Path, change: Inserted | Replaced | None) -> Path:
    """Copy the packages, change one line, and put the flow beside them."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package)  # with what is compiled: the unchanged need not be again
    shutil.copy(Path(__file__).with_name("flow.py"), folder)
    if change is not None:
        path = folder / change.file
        path.write_text(change.applied(path.read_text()))
    return folder
