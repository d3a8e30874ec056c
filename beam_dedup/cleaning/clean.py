"""Takes the duplicates of a run out of the way, each only after its witness was seen and both were compared with the records."""

import contextlib
import dataclasses
import itertools
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from types import FrameType
from typing import TypeVar

from beam_dedup.cleaning import files, script, steps, trash
from beam_dedup.cleaning.companions import WITH_COMPANIONS, Companion, beside, in_rounds, witness_of
from beam_dedup.cleaning.decided import Decided
from beam_dedup.cleaning.duplicates import Duplicate, read_duplicates
from beam_dedup.cleaning.files import LeftError, SameFileError, State
from beam_dedup.cleaning.journal import Journal
from beam_dedup.cleaning.outcome import Outcome, deed, not_touched
from beam_dedup.cleaning.protect import are_protected
from beam_dedup.cleaning.steps import LINKS, How, Step
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.errors import DedupError
from beam_dedup.core.model import Reason
from beam_dedup.core.names import shown
from beam_dedup.options.suggest import pasteable
from beam_dedup.output import log, write
from beam_dedup.signals import handling
from beam_dedup.texts import size_text

STEPS_AT_ONCE = 100  # that are written to the journal together
_PROGRESS_SECONDS = 0.5

DONE, LEFT = 0, 1

_Target = TypeVar("_Target", Duplicate, Companion)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CleanConfig:
    """The options of `dedup clean`; the command line documents each.

    Attributes:
      target: the directory of `--how move:DIRECTORY`; else "".
      accepted: whether, of near duplicates, only those are taken that a person accepted.
      protect: globs (`beam_dedup.core.path_globs`) of files that are not touched.
    """

    records: str
    how: How = How.TRASH
    target: str = ""
    near: bool = False
    accepted: bool = False
    protect: Sequence[str] = ()
    directory: str = ""
    journal: str = ""
    yes: bool = False
    quiet: bool = False
    decisions: Decisions = NO_DECISIONS


def clean(config: CleanConfig) -> int:
    """Does what the command line asks for, and prints it.

    Returns:
      The exit code: `LEFT` if something could not be done.

    Raises:
      UsageError: an option is wrong.
      DedupError: the records are damaged.
    """
    directory = os.path.abspath(config.directory or os.curdir)
    result = Outcome()
    decided = Decided.of(config.decisions)
    found = read_duplicates(config.records, directory, decided.drop)
    result.members, result.objects = found.members, found.objects
    wanted = list(_wanted(found.duplicates, config, decided, result))
    if config.how is How.SCRIPT:
        write(script.text(wanted, config.records, result.left, result.unreliable))
        return DONE
    checker = _Checker(wanted, config, result.unreliable)
    if not config.yes:
        _preview(wanted, checker, config, result)
        return DONE
    path = config.journal or journal_name(config.records)
    stop = _Stop()
    failure = ""
    with Journal(path, config.how, config.records) as journal, stop.on_signals():
        try:
            _take_all(wanted, checker, config, journal, result, stop)
        except OSError as error:
            failure = (
                f"the journal {shown(path)} can't be written: {error.strerror}. Try --journal on another disk"
            )
    if not result.done and not result.left:
        os.unlink(path)
    if not config.quiet or result.left:
        _report(config, result, path)
    if failure:
        raise DedupError(failure)
    if stop.number:
        log("interrupted; nothing is half done")
        return 128 + stop.number
    return LEFT if result.left else DONE


def journal_name(records: str) -> str:
    """Returns the name of a new journal, beside the records."""
    now = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    return f"{records.rstrip('/')}.clean-{now}-{os.getpid()}.jsonl"


def _wanted(
    duplicates: Sequence[Duplicate], config: CleanConfig, decided: Decided, result: Outcome
) -> Iterator[Duplicate]:
    names = set()
    protected = are_protected([duplicate.path for duplicate in duplicates], config.protect)
    for duplicate, is_protected in zip(duplicates, protected, strict=True):
        path = files.real(duplicate.path)
        if path in names:  # judged twice, for example in two runs, or delivered again
            continue
        if duplicate.digest in decided.keep:
            result.kept += 1
        elif duplicate.reason is Reason.NEAR and not config.near:
            result.near += 1
        elif duplicate.reason is Reason.NEAR and config.accepted and not decided.accepts(duplicate):
            result.unaccepted += 1
        elif duplicate.is_protected or is_protected:
            result.protected += 1
        elif objection := decided.objection(duplicate, config.how):
            result.left.append((path, objection))
            if duplicate.is_dropped:
                result.unreliable.add(path)
        else:
            names.add(path)
            yield dataclasses.replace(duplicate, path=path)


def _unprotected(companions: Sequence[Companion], config: CleanConfig, result: Outcome) -> list[Companion]:
    protected = are_protected([one.path for one in companions], config.protect)
    result.protected += sum(protected)
    return [one for one, is_protected in zip(companions, protected, strict=True) if not is_protected]


class _Checker:
    """Checks duplicates, and makes the steps that take them away."""

    def __init__(
        self, duplicates: Sequence[Duplicate], config: CleanConfig, unreliable: Collection[str]
    ) -> None:
        self._config = config
        self._kept = Decided.of(config.decisions).keep
        self.to_take = {duplicate.path for duplicate in duplicates}.union(unreliable)
        self._digests: dict[tuple[State, int], bytes] = {}  # of witnesses
        self._token = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        folders = [os.path.dirname(duplicate.path) for duplicate in duplicates]
        self._base = os.path.commonpath(folders) if folders else ""
        self._reserved: set[str] = set()

    def look(self, duplicate: Duplicate) -> os.stat_result:
        """Checks what can be seen without reading the files.

        Returns:
          What the system knows of the duplicate.

        Raises:
          LeftError: the duplicate can't be taken away.
        """
        return files.regular(duplicate.path) if duplicate.is_dropped else self._look_at_both(duplicate)[0]

    def _look_at_both(self, duplicate: Duplicate) -> tuple[os.stat_result, os.stat_result]:
        if duplicate.is_kept:
            raise LeftError("another record keeps it")
        if duplicate.is_witness_local and files.are_same(duplicate.path, duplicate.witness):
            raise SameFileError(
                f"it is the same file as its witness {shown(duplicate.witness)}, and frees nothing"
            )
        found = files.regular(duplicate.path)
        if not duplicate.is_witness_local:
            raise LeftError(f"its witness {shown(duplicate.witness)} is no local file")
        with files.about_witness(duplicate.witness):
            witness = files.regular(duplicate.witness)
        if files.real(duplicate.witness) in self.to_take:
            raise LeftError(f"its witness {shown(duplicate.witness)} is a duplicate or dropped itself")
        if self._config.how in LINKS:
            if found.st_dev != witness.st_dev and self._config.how is not How.SYMLINK:
                raise LeftError(f"its witness {shown(duplicate.witness)} is on another device")
            if found.st_size != witness.st_size:
                raise LeftError("its content differs from that of its witness")
        return found, witness

    def step(self, duplicate: Duplicate) -> Step:
        """Compares both files with the records, and returns the step that takes the duplicate away.

        Raises:
          LeftError: it can't be taken away.
        """
        if duplicate.is_dropped:
            found = files.regular(duplicate.path)
            return self._made(duplicate, found, self._unchanged(duplicate))
        found, witness = self._look_at_both(duplicate)
        state, digest = self._unchanged(duplicate), duplicate.digest
        with files.about_witness(duplicate.witness):
            witness_digest = self._digest_of_witness(duplicate.witness, witness)
        if not duplicate.witness_digests:
            raise LeftError(
                f"the records do not have the digest of its witness {shown(duplicate.witness)}, an image of --reference"
            )
        if witness_digest not in duplicate.witness_digests:
            raise LeftError(f"its witness {shown(duplicate.witness)} has changed since it was judged")
        if self._config.how in LINKS and witness_digest != digest:
            raise LeftError("its content differs from that of its witness")
        made = self._made(duplicate, found, state)
        return dataclasses.replace(
            made,
            witness=duplicate.witness,
            witness_digest=witness_digest,
            witness_state=State.of(witness),
            witness_ctime_ns=witness.st_ctime_ns,
        )

    @staticmethod
    def _unchanged(duplicate: Duplicate) -> State:
        """Reads the duplicate, and returns its state.

        Raises:
          LeftError: it has other content than the records say.
        """
        state, digest = files.digest_of(duplicate.path)
        if digest != duplicate.digest:
            raise LeftError("its content has changed since it was judged")
        return state

    def companion_step(self, companion: Companion) -> Step:
        """Returns the step that takes a companion away.

        Raises:
          LeftError: it can't be taken away.
        """
        found = files.regular(companion.path)
        state, digest = files.digest_of(companion.path)
        if digest in self._kept:
            raise LeftError("you decided to keep it")
        path, witness_digest = witness_of(companion, self._config.how, digest, self.to_take)
        step = self._made(
            dataclasses.replace(companion.image, path=companion.path, digest=digest), found, state
        )
        if not path:
            return step
        witness = files.regular(path)
        return dataclasses.replace(
            step,
            witness=path,
            witness_digest=witness_digest,
            witness_state=State.of(witness),
            witness_ctime_ns=witness.st_ctime_ns,
        )

    def _digest_of_witness(self, path: str, found: os.stat_result) -> bytes:
        key = State.of(found), found.st_ctime_ns
        if key not in self._digests:
            state, self._digests[key] = files.digest_of(path)
            if state != key[0]:
                raise LeftError("it changes while it is read")
        return self._digests[key]

    def _made(self, duplicate: Duplicate, found: os.stat_result, state: State) -> Step:
        """Returns the step of a file without a witness."""
        number = next(self._numbers)
        token = f"{self._token}-{number}"
        target = info = ""
        if self._config.how is How.TRASH:
            target, info = trash.names_in_trash(duplicate.path, token, self._reserved)
        elif self._config.how is How.MOVE:
            target = self._moved(duplicate.path, token)
        self._reserved.add(target)
        return Step(
            number=number,
            token=self._token,
            path=duplicate.path,
            target=target,
            info=info,
            witness="",
            digest=duplicate.digest,
            witness_digest=b"",
            state=state,
            witness_state=State(0, 0, 0, 0),
            ctime_ns=found.st_ctime_ns,
            witness_ctime_ns=0,
            mode=found.st_mode,
            owner=(found.st_uid, found.st_gid),
            atime_ns=found.st_atime_ns,
            frees=found.st_nlink == 1,
        )

    def _moved(self, path: str, token: str) -> str:
        """Returns the new name of a file below the target directory: the same as below the common directory of all."""
        top = os.path.realpath(self._config.target)
        target = os.path.join(top, os.path.relpath(path, self._base))
        if target == path:
            raise LeftError("it is there already")
        if files.real(target) != target:
            raise LeftError(f"{shown(os.path.dirname(target))} leads through a link to another directory")
        try:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        except OSError as error:
            raise LeftError(f"{shown(os.path.dirname(target))} can't be made: {error.strerror}") from error
        is_taken = target in self._reserved or os.path.lexists(target)
        return files.with_token(target, token) if is_taken else target


class _Stop:
    """Remembers a signal that asks this process to end, so that the current file can be finished."""

    number = 0

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        """Catches SIGINT, SIGTERM and SIGHUP while the block runs."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        caught = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
        with handling(caught, self._remember):
            yield

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.number = number


def _take_all(
    duplicates: Sequence[Duplicate],
    checker: _Checker,
    config: CleanConfig,
    journal: Journal,
    result: Outcome,
    stop: _Stop,
) -> None:
    progress = _Progress(len(duplicates), config.quiet)
    for start in range(0, len(duplicates), STEPS_AT_ONCE):
        batch = duplicates[start : start + STEPS_AT_ONCE]
        done = _take_some(batch, checker.step, config, journal, result, stop, progress.add)
        if config.how in WITH_COMPANIONS and any(duplicate.companions for duplicate in done):
            for companions in in_rounds(done, checker.to_take):
                _take_some(
                    _unprotected(companions, config, result),
                    checker.companion_step,
                    config,
                    journal,
                    result,
                    _Stop(),  # a signal ends the run after a shot, not in the middle of one
                )


def _take_some(
    targets: Sequence[_Target],
    step_of: Callable[[_Target], Step],
    config: CleanConfig,
    journal: Journal,
    result: Outcome,
    stop: _Stop,
    on_check: Callable[[], None] = lambda: None,
) -> list[_Target]:
    """Takes files away, after the journal has them, and returns those that were taken."""
    planned = []
    for target in targets:
        if stop.number:
            break
        try:
            planned.append((target, step_of(target)))
        except SameFileError:
            result.same += 1
        except (LeftError, OSError) as error:
            result.left.append((target.path, files.reason(error)))
        on_check()
    if planned:
        journal.plan([step for _, step in planned])
    done = []
    for target, step in planned:
        if stop.number:
            break
        try:
            steps.take(step, config.how)
        except (LeftError, OSError) as error:
            result.left.append((step.path, files.reason(error)))
            continue
        done.append(target)
        result.done += 1
        result.done_bytes += step.state.size_bytes if step.frees else 0
    return done


class _Progress:
    """Shows on a terminal how many duplicates were checked."""

    def __init__(self, total: int, quiet: bool) -> None:
        self._total, self._count, self._shown = total, 0, time.monotonic()
        self._is_on = not quiet and sys.stderr is not None and sys.stderr.isatty()

    def add(self) -> None:
        self._count += 1
        now = time.monotonic()
        if self._is_on and now - self._shown > _PROGRESS_SECONDS:
            self._shown = now
            print(
                f"\rdedup: {self._count:,} of {self._total:,} duplicates checked\x1b[K\r",
                end="",
                file=sys.stderr,
            )


def _preview(
    duplicates: Sequence[Duplicate], checker: _Checker, config: CleanConfig, result: Outcome
) -> None:
    for duplicate in duplicates:
        try:
            found = checker.look(duplicate)
        except SameFileError:
            result.same += 1
            continue
        except LeftError as error:
            result.left.append((duplicate.path, str(error)))
            continue
        result.done += 1
        result.done_bytes += found.st_size if found.st_nlink == 1 else 0
        if not config.quiet:
            write(f"{shown(duplicate.path)}: {_why(duplicate)}{beside(duplicate, config.how)}\n")
    lines = not_touched(result)
    if result.done:
        lines += [
            f"Would {deed(config.how, config.target, result.done, is_done=False)} ({size_text(result.done_bytes)})",
            "Nothing was changed. To do it, add --yes; then both files of each pair are read and compared with the records",
        ]
    else:
        lines.append("Nothing to do")
    write("\n".join(lines) + "\n")


def _why(duplicate: Duplicate) -> str:
    if duplicate.is_dropped:
        return "you decided to drop it"
    same = "the same as" if duplicate.reason is Reason.EXACT else "near"
    return f"{same} {shown(duplicate.witness)}"


def _report(config: CleanConfig, result: Outcome, journal: str) -> None:
    lines = not_touched(result)
    if not result.done:
        lines.append("Nothing was changed")
    else:
        space = {
            How.TRASH: f"; {size_text(result.done_bytes)} will be free when the trash is emptied",
            How.MOVE: f" ({size_text(result.done_bytes)})",
        }.get(config.how, f"; {size_text(result.done_bytes)} are free now")
        lines.append(deed(config.how, config.target, result.done, is_done=True) + space)
        lines.append(f"To undo it: dedup undo {pasteable(journal) or shown(journal)}")
    write("\n".join(lines) + "\n")
