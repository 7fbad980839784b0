"""The registry of students: a folder <name>/ with bundles <version>/ and the file CURRENT, which says who serves.

CURRENT holds version numbers, a line each: the first serves, the ones below served before it, newest first. SHADOW, if
it is there, holds the version that is compared with it on live traffic. Both are replaced atomically. A registry has
one name, because annotations of a video are ordered by the version alone.
"""

from pathlib import Path

from models.bundle import Manifest, load_manifest
from models.durable import replace_file
from schemas.errors import BundleError

CURRENT, SHADOW = "CURRENT", "SHADOW"
_REMEMBERED = 20


class Registry:
    """A registry's folder; nothing is kept in memory, so every call sees what lies there now."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def versions(self) -> list[int]:
        """Return the versions that have a folder, oldest first.

        Raises:
            BundleError: the registry is not there.

        """
        try:
            return sorted(int(one.name) for one in self.root.iterdir() if one.name.isdecimal() and one.is_dir())
        except OSError as error:
            raise BundleError(
                f"{self.root}: {error.strerror}; a registry is a folder NAME with bundles NAME/VERSION, as"
                " `vibestream distil --out` makes it"
            ) from error

    def manifest(self, version: int) -> Manifest:
        """Return a version's manifest.

        Raises:
            BundleError: it is missing or malformed, or of another student or version than the folders say.

        """
        manifest = load_manifest(self.path(version))
        expected = self.root.resolve().name, version
        if (manifest.name, manifest.version) != expected:
            raise BundleError(
                f"{self.path(version)} is {manifest.name} {manifest.version} by its manifest, expected"
                f" {expected[0]} {expected[1]}; move it to {manifest.name}/{manifest.version}"
            )
        return manifest

    def path(self, version: int) -> Path:
        """Return the folder of a version."""
        return self.root / str(version)

    def history(self) -> tuple[int, ...]:
        """Return who serves and who did before, newest first; nothing as long as nobody was promoted.

        Raises:
            BundleError: CURRENT can't be read, or holds something else than versions.

        """
        return self._read(CURRENT)

    def current(self) -> int:
        """Return who serves.

        Raises:
            BundleError: nobody does, or CURRENT is malformed.

        """
        history = self.history()
        if not history:
            raise BundleError(f"{self.root} has no {CURRENT}; vibestream student promote {self.root} VERSION")
        return history[0]

    def promote(self, version: int) -> None:
        """Let `version` serve; whether it may is for the caller to check."""
        history = self.history()
        if history[:1] != (version,):
            self._write(CURRENT, (version, *history)[:_REMEMBERED])

    def previous(self) -> int:
        """Return who served before.

        Raises:
            BundleError: nobody did.

        """
        history = self.history()
        if len(history) < 2:
            raise BundleError(f"{self.root / CURRENT} names nobody to go back to; promote a version instead")
        return history[1]

    def rollback(self) -> None:
        """Let the previous one serve again, and forget who serves now."""
        self.previous()
        self._write(CURRENT, self.history()[1:])

    def shadow(self) -> int | None:
        """Return who is compared; None: nobody."""
        return next(iter(self._read(SHADOW)), None)

    def set_shadow(self, version: int | None) -> None:
        """Let `version` be compared with who serves, or nobody."""
        self._write(SHADOW, () if version is None else (version,))

    def _read(self, name: str) -> tuple[int, ...]:
        try:
            lines = (self.root / name).read_text(encoding="ascii").split()
            return tuple(int(line) for line in lines)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise BundleError(f"{self.root / name}: {error.strerror}") from error
        except ValueError as error:
            raise BundleError(
                f"{self.root / name}: {error}; it holds version numbers, a line each: write it again with `vibestream"
                " student`"
            ) from error

    def _write(self, name: str, versions: tuple[int, ...]) -> None:
        path = self.root / name
        try:
            replace_file(path, "".join(f"{version}\n" for version in versions).encode())
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror}; the registry must be writable for this") from error


def fingerprint(bundle: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when a bundle's files do: names, sizes, times."""
    try:
        found = [(one.name, one.stat()) for one in sorted(bundle.iterdir())]
    except OSError:
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)
