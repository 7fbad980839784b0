"""Media in object stores, through the S3 and Google clients that pyarrow carries: no package more."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event, Lock
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs

from models.media.http import PassingFault, too_large
from models.media.rules import Target
from schemas.errors import MediaProblem

_PIECE = 4 * 2**20


@dataclass(frozen=True)
class ObjectStores:
    """Where s3:// is; credentials are those that the clients find themselves (AWS_*, Google's application default).

    `endpoint` is http(s)://host:port of an S3-compatible store, empty for Amazon's. `timeout_s` bounds each request.
    """

    endpoint: str = ""
    region: str = ""
    timeout_s: float = 20.0


class ObjectSource:
    """Reads objects; its calls block."""

    def __init__(self, stores: ObjectStores) -> None:
        self._stores = stores
        self._lock = Lock()
        self._clients: dict[str, Any] = {}

    def fetch(self, target: Target, into: Path, max_bytes: int, given_up: Event) -> None:
        """Write the object to `into`, until `given_up` is set.

        Raises:
            MediaProblem: unavailable or too_large.
            PassingFault: the store is away.

        """
        try:
            with self._client(target.scheme).open_input_stream(f"{target.host}/{target.path.lstrip('/')}") as source:
                size = 0
                with into.open("wb") as file:
                    while (piece := source.read(_PIECE)) and not given_up.is_set():
                        size += len(piece)
                        if size > max_bytes:
                            raise too_large(None, max_bytes)
                        file.write(piece)
        except FileNotFoundError as error:
            raise MediaProblem("unavailable", f"{target.shown} has no such object") from error
        except PermissionError as error:
            raise MediaProblem("unavailable", f"{target.shown} does not let us read it") from error
        except OSError as error:
            if "ACCESS_DENIED" in str(error) or "HTTP status 403" in str(error):
                raise MediaProblem("unavailable", f"{target.shown} does not let us read it") from error
            raise PassingFault(f"{target.shown}: {str(error)[:200]}") from error

    def _client(self, scheme: str) -> Any:
        with self._lock:
            if scheme not in self._clients:
                self._clients[scheme] = self._s3() if scheme == "s3" else self._gcs()
            return self._clients[scheme]

    def _s3(self) -> Any:
        stores = self._stores
        endpoint = urlsplit(stores.endpoint)
        return fs.S3FileSystem(
            endpoint_override=endpoint.netloc or None,
            scheme=endpoint.scheme or "https",
            region=stores.region or None,
            connect_timeout=stores.timeout_s,
            request_timeout=stores.timeout_s,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        )

    def _gcs(self) -> Any:
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=self._stores.timeout_s))
