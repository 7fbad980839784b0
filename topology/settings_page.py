"""The page of all settings, made from their one definition."""

from typing import Any

import msgspec

from topology.settings import SECRETS, Settings, variable

_INTRODUCTION = """\
# Settings

Every setting is an environment variable, read once at the start; a value that is malformed or out of range, and a
VIBESTREAM_ variable that is no setting, end the command with one line that names it. `vibestream settings` shows the
values that are in force. This page is written by `make settings`.

| variable | default | what it is |
|---|---|---|
"""


def document() -> str:
    """Return the page as Markdown; defaults of secrets are not shown, for they have none."""
    fields: dict[str, Any] = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    return _INTRODUCTION + "".join(
        f"| `{variable(name)}` | {_default(name)} | {_what(fields[name])} |\n" for name in fields
    )


def _default(name: str) -> str:
    value = getattr(Settings(), name)
    if name in SECRETS or value == "":
        return ""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{shown}`"


def _what(field: dict[str, Any]) -> str:
    parts = [field["description"]] if "description" in field else []
    if "enum" in field:
        parts.append("one of " + ", ".join(f"`{value}`" for value in field["enum"]))
    if field.get("type") == "boolean":
        parts.append("`true` or `false`")
    bounds = [
        f"{words} {field[name]}"
        for name, words in (("minimum", "at least"), ("exclusiveMinimum", "above"), ("maximum", "at most"))
        if name in field
    ]
    parts += [" and ".join(bounds)] if bounds else []
    return "; ".join(parts).replace("|", "\\|")
