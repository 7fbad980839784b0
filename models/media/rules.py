"""Which media an operator lets us fetch: a list of addresses, and everything below them."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from schemas.errors import ConfigurationError, MediaProblem

Scheme = Literal["file", "http", "https", "s3", "gs"]
_SCHEMES = ("file", "http", "https", "s3", "gs")
_PORTS = {"http": 80, "https": 443}
# What RFC 3986 allows in a URI. Whatever else there is, two parsers may read it in two ways.
_URI = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Target:
    """A media URI, taken apart. `path` of a file is decoded; `key` of an object, too; of http(s) `uri` is asked."""

    scheme: Scheme
    host: str
    port: int | None
    path: str
    uri: str

    @property
    def shown(self) -> str:
        """The target as it may be told: a query may hold a signature."""
        return f"{self.scheme}://{self.host}" if self.host else f"{self.scheme}://"


def read_target(uri: str) -> Target:
    """Take a URI apart.

    Raises:
        MediaProblem: refused: it is no URI of a scheme that is known here, or one that could be read in two ways.

    """
    if not _URI.fullmatch(uri):
        raise MediaProblem("refused", "media_uri has characters that a URI has not; percent-encode them")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise MediaProblem("refused", f"media_uri is malformed: {error}") from error
    scheme = parts.scheme.lower()
    if scheme not in _SCHEMES:
        raise MediaProblem("refused", f"media_uri has the scheme {scheme[:20]!r}; known: {', '.join(_SCHEMES)}")
    if "@" in parts.netloc:
        raise MediaProblem("refused", "media_uri carries a user or password")
    path = unquote(parts.path)
    if any(step in ("..", ".") for step in re.split(r"[/\\]", path)) or not path.isprintable():
        raise MediaProblem("refused", "media_uri has dots or unprintable characters among its folders")
    return Target(scheme, _host(parts, scheme), port or _PORTS.get(scheme), path, uri)


def _host(parts: SplitResult, scheme: str) -> str:
    host = (parts.hostname or "").rstrip(".")
    if scheme == "file":
        if host not in ("", "localhost"):
            raise MediaProblem("refused", "media_uri names a file on another host; give file:///folder/name")
        return ""
    if not host:
        raise MediaProblem("refused", f"media_uri names no {'bucket' if scheme in ('s3', 'gs') else 'host'}")
    return host


@dataclass(frozen=True)
class _Rule:
    scheme: Scheme
    host: str
    port: int | None
    path: str

    def covers(self, target: Target) -> bool:
        if (self.scheme, self.port) != (target.scheme, target.port):
            return False
        if self.host.startswith("*."):
            if not target.host.endswith(self.host[1:]):
                return False
        elif self.host != target.host:
            return False
        return _below(target.path, self.path)


def _below(path: str, folder: str) -> bool:
    return folder in ("", "/") or path == folder or path.startswith(folder if folder.endswith("/") else folder + "/")


class MediaRules:
    """What may be fetched; everything else is refused.

    `allowed` are URIs: a scheme, a host or bucket (`*.host` for all below a domain) and perhaps a folder, with all that
    is in it. A name that leads to a private, loopback or link-local address is refused unless `private`; an address in
    digits is allowed where a rule names it.
    """

    def __init__(self, allowed: Sequence[str], *, private: bool = False) -> None:
        """Read the rules.

        Raises:
            ConfigurationError: one is malformed, or names a folder that is not there.

        """
        self.private = private
        self._rules = [_rule(one) for one in allowed]

    @property
    def any(self) -> bool:
        """Whether anything at all is allowed."""
        return bool(self._rules)

    def check(self, uri: str) -> Target:
        """Return where `uri` leads.

        Raises:
            MediaProblem: refused.

        """
        target = read_target(uri)
        if target.scheme == "file":
            return self._checked_file(target)
        if not any(rule.covers(target) for rule in self._rules):
            raise MediaProblem(
                "refused", f"{target.shown} is not among the addresses that VIBESTREAM_MEDIA_ALLOW lists"
            )
        literal = literal_address(target.host)
        if literal is not None and not any(rule.host == target.host for rule in self._rules):
            raise MediaProblem("refused", f"{target.shown} is an address in digits that no rule names")
        return target

    def permits(self, address: str) -> bool:
        """Tell whether a name may lead to this address."""
        return self.private or _public(ipaddress.ip_address(address.partition("%")[0]))

    def _checked_file(self, target: Target) -> Target:
        """Follow all links first: what counts is where the file really lies."""
        folders = [rule.path for rule in self._rules if rule.scheme == "file"]
        if not folders:
            raise MediaProblem("refused", "files are not among the addresses that VIBESTREAM_MEDIA_ALLOW lists")
        outside = MediaProblem("refused", "the file lies outside of the folders that VIBESTREAM_MEDIA_ALLOW lists")
        if not any(_below(target.path, folder) for folder in folders):
            raise outside  # what lies elsewhere is not even looked for
        try:
            real = Path(target.path).resolve(strict=True)
            regular = real.is_file()
        except (OSError, RuntimeError) as error:
            raise MediaProblem("unavailable", f"the file can't be opened: {type(error).__name__}") from error
        if not any(real.is_relative_to(Path(folder).resolve()) for folder in folders):
            raise outside
        if not regular:
            raise MediaProblem("refused", "it is a folder, a device or a pipe, not a file")
        return Target("file", "", None, str(real), target.uri)


def _rule(text: str) -> _Rule:
    try:
        target = read_target(text.replace("://*.", "://wildcard."))
    except MediaProblem as error:
        raise ConfigurationError(f"VIBESTREAM_MEDIA_ALLOW: {text!r}: {error}") from error
    host = target.host.replace("wildcard.", "*.", 1) if "://*." in text else target.host
    if "*" in target.path or "*" in host[1:]:
        raise ConfigurationError(
            f"VIBESTREAM_MEDIA_ALLOW: {text!r}: only a host may begin with *.; a folder covers all in it"
        )
    if target.scheme == "file" and not (PurePosixPath(target.path).is_absolute() and Path(target.path).is_dir()):
        raise ConfigurationError(f"VIBESTREAM_MEDIA_ALLOW: {text!r} is no folder; give file:///absolute/folder/")
    return _Rule(target.scheme, host, target.port, target.path)


def literal_address(host: str) -> Address | None:
    """Return the address that a host in digits is, in any notation that a resolver would take; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    # 127.1, 0x7f000001 and 2130706433 are addresses to the C library.
    if re.fullmatch(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*", host):
        raise MediaProblem("refused", f"{host} is an address in an unusual notation")
    return None


def _public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _public(address.ipv4_mapped)
        if address.sixtofour is not None or address.teredo is not None or address in _NAT64:
            return False  # they carry an IPv4 address that somebody else would go on to
    return address.is_global and not address.is_multicast
