"""confine: a decoder with a hole can read files, and nothing else."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Tries what a stranger's code might do; prints which of it the system refused.
ATTEMPTS = """
import ctypes, json, os, socket, subprocess, sys, threading
from beam_dedup.core.reading.confinement import confine

library = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    if library.syscall(ctypes.c_long(number), *(ctypes.c_long(one) for one in arguments)) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def fork():
    if os.fork() == 0:
        os._exit(0)

def write_with(flags):
    return lambda: os.close(os.open("file", flags))

parent, opened = os.getppid(), os.open("file", os.O_RDONLY)
attempts = {
    "socket": socket.socket,
    "program": lambda: subprocess.run(["true"]),
    "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]),
    "fork": fork,
    "signal": lambda: os.kill(parent, 0),
    "signal to all": lambda: os.kill(-1, 0),
    "signal to a thread": lambda: call({"x86_64": 234, "aarch64": 131}[os.uname().machine], parent, parent, 0),
    "limits": lambda: __import__("resource").prlimit(parent, 7),
    "create": lambda: open("new", "w"),
    "write": write_with(os.O_WRONLY),
    "read and write": write_with(os.O_RDWR),
    "empty": write_with(os.O_RDONLY | os.O_TRUNC),
    "append": lambda: open("file", "a"),
    "remove": lambda: os.remove("file"),
    "rename": lambda: os.rename("file", "other"),
    "link": lambda: os.link("file", "other"),
    "symlink": lambda: os.symlink("file", "other"),
    "mkdir": lambda: os.mkdir("folder"),
    "rmdir": lambda: os.rmdir("."),
    "truncate": lambda: os.truncate("file", 0),
    "chmod": lambda: os.chmod("file", 0o777),
    "fchmod": lambda: os.fchmod(opened, 0o777),
    "chown": lambda: os.chown("file", os.getuid(), os.getgid()),
    "times": lambda: os.utime("file"),
    "fifo": lambda: os.mkfifo("fifo"),
    "attribute": lambda: os.setxattr("file", "user.a", b"b"),
    "openat2": lambda: call(437, -100, 0, 0, 0),
    "io_uring": lambda: call(425, 1, 0),
    "other interface of x86-64": lambda: call(0x40000000 + 39),
}

def refused():
    found = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError as error:
            if error.errno in (1, 38):  # EPERM, ENOSYS
                found.append(name)
    return sorted(found)

threads = [threading.Event(), threading.Event()]
found = {}

def in_thread():  # begun before the rights are taken
    threads[0].wait()
    found["thread"] = refused()
    threads[1].set()

threading.Thread(target=in_thread).start()
confine()
with open("/proc/self/status") as status:
    found["status"] = status.read()
found["main"] = refused()
threads[0].set()
threads[1].wait()
later = threading.Thread(target=lambda: found.update(read=open("file").read()))
later.start()
later.join()
os.kill(os.getpid(), 0)
print(json.dumps({**found, "all": sorted(attempts)}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_confined_process_and_its_threads_can_only_read_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", ATTEMPTS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert "NoNewPrivs:\t1\n" in found["status"]
    assert found["read"] == "content"
    if "Seccomp:\t2\n" not in found["status"] or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("this system has no seccomp filters")
    wanted = [
        name for name in found["all"] if platform.machine() == "x86_64" or name != "other interface of x86-64"
    ]
    assert [name for name in wanted if name not in found["main"]] == []
    assert [name for name in wanted if name not in found["thread"]] == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "content"}
