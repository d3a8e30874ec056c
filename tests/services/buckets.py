"""Creates buckets for tests. Fills and reads them with the clients of the stores, not with the code under test."""

import dataclasses
import itertools
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import boto3
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from tests.app.cli_runs import dedup_apart
from tests.services.servers import Service

_numbers = itertools.count(1)


class StoreClient(Protocol):
    """Reads and writes the objects of one bucket."""

    def put(self, name: str, data: bytes) -> str:
        """Creates or replaces an object. Returns its generation, or "" in a store that has none."""
        ...

    def get(self, name: str) -> bytes: ...

    def delete(self, name: str) -> None: ...

    def names(self) -> Iterator[str]: ...


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A bucket on a running server."""

    uri: str  # without a trailing slash
    service: Service
    client: StoreClient

    def fill(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            self.client.put(name, data)

    def files(self, folder: str = "") -> dict[str, bytes]:
        """Returns the content of all objects below a prefix, by their names relative to it."""
        start = f"{folder}/" if folder else ""
        return {
            name.removeprefix(start): self.client.get(name)
            for name in self.client.names()
            if name.startswith(start)
        }

    def dedup(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Runs `dedup` in a process of its own, with this server as the store and without credentials.

        In the arguments, `{b}` stands for the URI of the bucket.
        """
        return dedup_apart(*self.arguments(arguments), *self.service.flags, env=self.environment())

    def arguments(self, given: Iterable[object]) -> list[str]:
        """Returns the arguments with `{b}` replaced, and without an output file of groups unless they name one."""
        texts = [str(argument).replace("{b}", self.uri) for argument in given]
        return texts if "-o" in texts else [*texts, "-o", ""]

    def environment(self) -> dict[str, str]:
        """Returns environment variables for clients: the server's, and none that would provide credentials."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOOGLE_"))
        }
        no_credentials = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        return {**inherited, **no_credentials, **self.service.environment}


def google_bucket(service: Service) -> Bucket:
    """Creates an empty bucket on a server for gs://."""
    client = Client("test", AnonymousCredentials(), client_options={"api_endpoint": service.url})
    name = f"bucket-{next(_numbers)}"
    return Bucket(f"gs://{name}", service, _Google(client.create_bucket(name)))


def amazon_bucket(service: Service) -> Bucket:
    """Creates an empty bucket on a server for s3://."""
    client = boto3.client(
        "s3",
        endpoint_url=service.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        region_name="us-east-1",
    )
    name = f"bucket-{next(_numbers)}"
    client.create_bucket(Bucket=name)
    return Bucket(f"s3://{name}", service, _Amazon(client, name))


class _Google:
    def __init__(self, bucket: Any) -> None:
        self.bucket = bucket

    def put(self, name: str, data: bytes) -> str:
        blob = self.bucket.blob(name)
        blob.upload_from_string(data, "application/octet-stream")
        return str(blob.generation)

    def get(self, name: str) -> bytes:
        return bytes(self.bucket.blob(name).download_as_bytes())

    def delete(self, name: str) -> None:
        self.bucket.blob(name).delete()

    def names(self) -> Iterator[str]:
        return (blob.name for blob in self.bucket.list_blobs())


class _Amazon:
    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    def put(self, name: str, data: bytes) -> str:
        self.client.put_object(Bucket=self.bucket, Key=name, Body=data)
        return ""

    def get(self, name: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read())

    def delete(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=name)

    def names(self) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return (found["Key"] for page in pages for found in page.get("Contents", ()))


def files_of(folder: Path) -> dict[str, bytes]:
    """Returns the content of all files below a directory, by their relative paths."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
