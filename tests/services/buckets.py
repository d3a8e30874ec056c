"""Buckets for tests, filled and looked at with the stores' own clients, not with what is tested."""

import dataclasses
import itertools
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import boto3
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.app.cli_runs import dedup_apart
from tests.services.servers import Service

_numbers = itertools.count(1)


class _Client(Protocol):
    def put(self, name: str, data: bytes) -> None: ...

    def get(self, name: str) -> bytes: ...

    def names(self) -> Iterator[str]: ...


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A bucket of a running server."""

    uri: str  # without a slash at its end
    service: Service
    client: _Client

    def fill(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            self.client.put(name, data)

    def files(self, folder: str = "") -> dict[str, bytes]:
        """All objects below a folder, by the rest of their names."""
        start = f"{folder}/" if folder else ""
        return {
            name.removeprefix(start): self.client.get(name)
            for name in self.client.names()
            if name.startswith(start)
        }

    def dedup(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """`dedup` as a user runs it who has this server for a store, and no credentials. `{b}` stands for the bucket."""
        return dedup_apart(*self.arguments(arguments), *self.service.flags, env=self.environment())

    def arguments(self, given: Iterable[object]) -> list[str]:
        texts = [str(argument).replace("{b}", self.uri) for argument in given]
        return texts if "-o" in texts else [*texts, "-o", ""]

    def environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GOOGLE_"))
        }
        nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        return {**inherited, **nowhere, **self.service.environment}


def google_bucket(service: Service) -> Bucket:
    client = storage.Client("test", AnonymousCredentials(), client_options={"api_endpoint": service.url})
    name = f"bucket-{next(_numbers)}"
    return Bucket(f"gs://{name}", service, _Google(client.create_bucket(name)))


def amazon_bucket(service: Service) -> Bucket:
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

    def put(self, name: str, data: bytes) -> None:
        self.bucket.blob(name).upload_from_string(data, "application/octet-stream")

    def get(self, name: str) -> bytes:
        return bytes(self.bucket.blob(name).download_as_bytes())

    def names(self) -> Iterator[str]:
        return (blob.name for blob in self.bucket.list_blobs())


class _Amazon:
    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    def put(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=name, Body=data)

    def get(self, name: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.bucket, Key=name)["Body"].read())

    def names(self) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return (found["Key"] for page in pages for found in page.get("Contents", ()))


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
