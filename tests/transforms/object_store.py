"""A store in memory that behaves as object stores do."""

import io
from typing import Any

from apache_beam.io.localfilesystem import LocalFileSystem

SCHEME = "dedupteststore"


class Store(LocalFileSystem):
    """dedupteststore://bucket/name: an object is there when its upload is closed, and not before."""

    objects: dict[str, bytes] = {}  # noqa: RUF012, Beam makes a new instance for each call

    @classmethod
    def scheme(cls) -> str:
        return SCHEME

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def open(self, path: str, *_: Any, **__: Any) -> Any:
        if path not in self.objects:
            raise FileNotFoundError(f"no object {path}")
        return io.BytesIO(self.objects[path])

    def create(self, path: str, *_: Any, **__: Any) -> Any:
        return _Upload(path)

    def copy(self, sources: list[str], targets: list[str]) -> None:
        for source, target in zip(sources, targets, strict=True):
            self.objects[target] = self.objects[source]


class _Upload(io.BytesIO):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def close(self) -> None:
        if not self.closed:
            Store.objects[self.path] = self.getvalue()
        super().close()


def uri(name: str) -> str:
    return f"{SCHEME}://bucket/{name}"
