"""S3 and DynamoDB for tests: moto's server, a process of the tests' own, which keeps all that it has in memory.

It serves one request after the other: moto itself takes no lock around a transaction.
"""

import contextlib
import http.client
import importlib.util
import os
import pwd
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

from tests.services.ports import HOST
from tests.services.private import PrivateServer
from tests.services.service import Service
from tests.services.unavailable import Unavailable, skip_or_fail

REGION = "eu-central-1"
KEY, SECRET = "testing", "testing"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
OTHERS = ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN")
NEEDED = ("boto3", "flask", "moto", "storages")
SERVE = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple(sys.argv[1], int(sys.argv[2]), DomainDispatcherApplication(create_backend_app), threaded=False)
"""


class PrivateAWS(PrivateServer):
    """Run what stands for S3 and DynamoDB; what a killed one had is gone."""

    title: ClassVar[str] = "moto"
    users: ClassVar[tuple[str, ...]] = ()

    def prepare(self, folder: Path) -> None:
        for name in NEEDED:
            if importlib.util.find_spec(name) is None:
                msg = f"{name} is not installed"
                raise Unavailable(msg)

    def command(self, folder: Path) -> list[str]:
        return [sys.executable, "-c", SERVE, HOST, str(self.port)]

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=3)
        try:
            connection.request("GET", "/moto-api/data.json")
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()

    @property
    def service(self) -> Service:
        return Service(scheme="http", host=HOST, port=self.port, database="")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def new_table(self) -> dict[str, Any]:
        """Return the options of a store on a table that nobody else has, and that is not there yet."""
        return {"TABLE": f"table-{secrets.token_hex(6)}", "REGION": REGION, "ENDPOINT_URL": self.url}

    def bucket(self, name: str) -> dict[str, Any]:
        """Return the options of a django-storages backend for a bucket, which is made where there is none."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name=REGION,
        )
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return {
            "access_key": KEY,
            "secret_key": SECRET,
            "region_name": REGION,
            "endpoint_url": self.url,
            "bucket_name": name,
        }

    def _find_owner(self) -> pwd.struct_passwd | None:
        """Return nobody else: it is this environment's Python that serves."""
        return None


@contextlib.contextmanager
def credentials() -> Iterator[None]:
    """Let boto3 find credentials that are good for nothing, and nothing else of this machine's."""
    with patch.dict(os.environ, CREDENTIALS):
        for name in OTHERS:
            os.environ.pop(name, None)
        yield


@contextlib.contextmanager
def aws() -> Iterator[PrivateAWS]:
    """Give a server, for which boto3 finds credentials; skip or fail where none can be had."""
    server = PrivateAWS()
    try:
        server.start()
    except Unavailable as reason:
        skip_or_fail(f"no S3 and no DynamoDB: {reason}")
    with server, credentials():
        yield server
