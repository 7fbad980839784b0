"""An S3 in a process of its own, in memory: it can be frozen and let go on."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.error import URLError
from urllib.request import urlopen

import boto3
import pytest

from tests.processes import wait_until
from topology.broker import free_port
from topology.settings import Settings, with_changes

BUCKET = "videos"


@dataclass(frozen=True)
class ObjectStore:
    endpoint: str
    process: subprocess.Popen[bytes]

    def settings(self, settings: Settings, folder: str, **changes: object) -> Settings:
        """The settings with their store in a folder of the bucket."""
        return with_changes(
            settings,
            store_uri=f"s3://{BUCKET}/{folder}",
            store_endpoint=self.endpoint,
            store_region="us-east-1",
            store_allow_http=True,
            **changes,
        )


@contextmanager
def object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """An S3 with one empty bucket; the credentials are in the environment meanwhile."""
    for name, value in (("ACCESS_KEY_ID", "testing"), ("SECRET_ACCESS_KEY", "s3cret"), ("EC2_METADATA_DISABLED", "1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: _answers(endpoint), 30, "the object store answers")
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield ObjectStore(endpoint, process)
    finally:
        process.kill()
        process.wait()


def _answers(endpoint: str) -> bool:
    try:
        with urlopen(f"{endpoint}/moto-api/", timeout=5):
            return True
    except (URLError, OSError):
        return False
