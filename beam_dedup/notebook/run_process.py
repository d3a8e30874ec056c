"""Runs the command line in a process of its own, which `beam_dedup.notebook.process` starts.

The first line of standard input is a JSON object: `arguments` of the command line, and `scratch`, a directory of the parent. The
parent keeps standard input open. When it ends, however it ends, this process removes that directory and ends too.
"""

import json
import os
import shutil
import signal
import sys
import threading

from beam_dedup import cli


def main() -> None:
    """Runs the command line that standard input holds, and ends this process with its exit code."""
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, args=(request["scratch"],), name="parent", daemon=True).start()
    sys.argv[1:] = request["arguments"]
    cli.entry()


def _end_with_parent(scratch: str) -> None:
    """Waits until the parent has ended or has closed standard input, then ends this process as SIGTERM does."""
    sys.stdin.buffer.read()
    shutil.rmtree(scratch, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
