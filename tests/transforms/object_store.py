"""An object store in memory, as a file system of Beam."""

import io
from typing import Any

from apache_beam.io.localfilesystem import LocalFileSystem

SCHEME = "dedupteststore"


class Store(LocalFileSystem):
    """The file system of dedupteststore://bucket/name. An object appears when its upload is closed."""

    objects: dict[str, bytes] = {}  # noqa: RUF012  shared, because Beam makes a new instance per call

    @classmethod
    def scheme(cls) -> str:
        return SCHEME

    def join(self, basepath: str, *paths: str) -> str:
        return "/".join([basepath.rstrip("/"), *paths])

    def open(self, path: str, *_: Any, **__: Any) -> Any:
        if path not in self.objects:
            raise FileNotFoundError(f"no object {path}")
        return io.BytesIO(self.objects[path])

    def exists(self, path: str) -> bool:
        return path in self.objects

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
    """Returns the URI of an object in the store."""
    return f"{SCHEME}://bucket/{name}"
