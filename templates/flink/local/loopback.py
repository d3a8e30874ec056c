"""Patches Beam's job server so that its gRPC servers listen on the requested address only.

    python loopback.py DIRECTORY      the directory with beam-sdks-java-core-*.jar

Beam's job server 2.62 opens each of its gRPC servers on a port of all addresses of the machine, although it knows the
requested address (`ServerFactory$InetSocketAddressServerFactory.createServer`). Anybody who can connect to such a port can run
code. This program replaces one call in that class, `forPort(address.getPort())`, by `forAddress(address)`. It does not change
a jar that is already patched. Chapter 4 of the Java Virtual Machine Specification defines the format of class files.
"""

import os
import struct
import sys
import zipfile
from pathlib import Path

JAR = "beam-sdks-java-core-*.jar"
CLASS = "org/apache/beam/sdk/fn/server/ServerFactory$InetSocketAddressServerFactory.class"
_BUILDER = "io/grpc/netty/NettyServerBuilder"

_UTF8, _CLASS, _METHOD, _NAME_AND_TYPE = 1, 7, 10, 12
_SIZES = {
    3: 4,
    4: 4,
    5: 8,
    6: 8,
    7: 2,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 4,
    15: 3,
    16: 2,
    17: 4,
    18: 4,
    19: 2,
    20: 2,
}
_TWO_SLOTS = (5, 6)
_POOL = 8  # offset of the constants, which begin with their count
_VIRTUAL, _STATIC, _NOTHING = b"\xb6", b"\xb8", b"\x00\x00\x00"


class _Constants:
    """The constants of a class file, by their indexes."""

    def __init__(self, data: bytes) -> None:
        (self.count,) = struct.unpack_from(">H", data, _POOL)
        self.values: dict[int, tuple[int, bytes]] = {}
        at, number = _POOL + 2, 1
        while number < self.count:
            tag = data[at]
            begin = at + 3 if tag == _UTF8 else at + 1
            size = struct.unpack_from(">H", data, at + 1)[0] if tag == _UTF8 else _SIZES[tag]
            self.values[number] = (tag, data[begin : begin + size])
            at = begin + size
            number += 2 if tag in _TWO_SLOTS else 1
        self.end = at

    def numbers(self, number: int) -> tuple[int, ...]:
        value = self.values[number][1]
        return struct.unpack(f">{len(value) // 2}H", value)

    def text(self, number: int) -> str:
        return self.values[number][1].decode("utf-8", "replace")

    def method(self, class_name: str, name: str) -> int:
        """Returns the index of a method of the class whose name ends with `class_name`.

        Raises:
          ValueError: the class file does not call it.
        """
        for number, (tag, _) in self.values.items():
            if tag == _METHOD:
                of_class, signature = self.numbers(number)
                names = self.text(self.numbers(of_class)[0]), self.text(self.numbers(signature)[0])
                if names[0].endswith(class_name) and names[1] == name:
                    return number
        raise ValueError(f"{CLASS} does not call {name} of {class_name}")


def bound(data: bytes) -> bytes:
    """Returns the patched class file.

    Raises:
      ValueError: the class is not that of job server 2.62.
    """
    constants = _Constants(data)
    port, for_port = constants.method("InetSocketAddress", "getPort"), constants.method(_BUILDER, "forPort")
    (builder, _) = constants.numbers(for_port)
    builder_name = constants.text(constants.numbers(builder)[0])
    before = _VIRTUAL + struct.pack(">H", port) + _STATIC + struct.pack(">H", for_port)
    if data.count(before) != 1:
        raise ValueError(f"{CLASS} differs from that of job server 2.62")
    first = constants.count
    added = b"".join(
        (
            _utf8("forAddress"),
            _utf8(f"(Ljava/net/SocketAddress;)L{builder_name};"),
            struct.pack(">BHH", _NAME_AND_TYPE, first, first + 1),
            struct.pack(">BHH", _METHOD, builder, first + 2),
        )
    )
    head = data[:_POOL] + struct.pack(">H", first + 4) + data[_POOL + 2 : constants.end]
    after = _NOTHING + _STATIC + struct.pack(">H", first + 3)
    return head + added + data[constants.end :].replace(before, after)


def _utf8(text: str) -> bytes:
    return struct.pack(">BH", _UTF8, len(text)) + text.encode()


def bind(jar: Path) -> bool:
    """Patches a jar atomically. Returns False if it was already patched."""
    changed = jar.with_suffix(".changed")
    with zipfile.ZipFile(jar) as before:
        if b"forAddress" in before.read(CLASS):
            return False
        with zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as after:
            for entry in {
                entry.filename: entry for entry in before.infolist()
            }.values():  # some entries occur twice
                data = before.read(entry)
                after.writestr(entry, bound(data) if entry.filename == CLASS else data)
    os.replace(changed, jar)
    return True


if __name__ == "__main__":
    jars = list(Path(sys.argv[1]).glob(JAR))
    if not jars:
        sys.exit(f"there is no {JAR} in {sys.argv[1]}: name the directory that get has filled")
    for jar in jars:
        print(f"{jar.name}: {'patched' if bind(jar) else 'already patched'}")
