"""`dedup`, but a run that stays writes its records several times a second, so that a test need not wait for them; and it may
be told when to die: `DIE=after:3:records-` kills it when the third file whose name begins so has got its name.
"""

import functools
import os
import signal
import sys

from beam_dedup import stream_pipeline
from beam_dedup.cli import main
from transforms import placing, storage
from transforms.stream.record import RecordVerdicts

INTERVAL_SECONDS = 0.3
DIE = "DIE"


def die(when: str, number: int, prefix: str) -> None:
    """Arranges for the end of this process before or after a file gets its name."""
    give_name = storage.give_name
    named = 0

    def give_and_die(partial: str, path: str, replace: bool) -> None:
        nonlocal named
        named += os.path.basename(path).startswith(prefix)
        is_last = named == number
        if is_last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        give_name(partial, path, replace)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)

    storage.give_name = placing.give_name = give_and_die


if __name__ == "__main__":
    stream_pipeline.RecordVerdicts = functools.partial(RecordVerdicts, interval=INTERVAL_SECONDS)
    if os.environ.get(DIE):
        when, number, prefix = os.environ[DIE].split(":")
        die(when, int(number), prefix)
    sys.exit(main(sys.argv[1:]))
