"""Assigns images to the splits of a data set: train, test, ...

Every input belongs to one split, and an image to the split of its input. The name of an image begins with the label of
its input (`beam_dedup.core.reading.input_paths.labels`), also that of a member of an archive. So the split of an image is a function
of its name and the configuration, and nothing has to be carried along.
"""

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.codes import IntArray
from beam_dedup.core.errors import UsageError
from beam_dedup.core.names import shown
from beam_dedup.core.reading import input_paths

NO_SPLIT = -1


@dataclasses.dataclass(frozen=True)
class Splits:
    """The splits of a run.

    Args:
      labels: the labels of the inputs, all different.
      names: the split of each of these inputs.
    """

    labels: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def of_inputs(cls, inputs: Sequence[str], names: Sequence[str]) -> "Splits":
        """Returns the splits of some inputs; `names` has the name of the split of each."""
        return cls(input_paths.labels(inputs), tuple(names))

    @functools.cached_property
    def all(self) -> tuple[str, ...]:
        """The name of each split once, in the order of the inputs. Its index is the number of the split."""
        return tuple(dict.fromkeys(self.names))

    def numbers_of(self, names: pa.ChunkedArray) -> IntArray:
        """Returns the number of the split of each image; `NO_SPLIT` if it is in none.

        Args:
          names: the names of images, as the column `name` of a block has them.
        """
        numbers = np.full(len(names), NO_SPLIT, np.int64)
        for label, split in zip(self.labels, self.names, strict=True):
            text = blocks.to_bytes(label)
            # A file that an input names has the label as its name.
            is_of_input = pc.or_(
                pc.equal(names, pa.scalar(text, pa.binary())), pc.starts_with(names, text + b"/")
            )
            numbers[np.asarray(is_of_input).astype(bool)] = self.all.index(split)
        return numbers


def with_splits(block: VerdictBlock, splits: Splits) -> VerdictBlock:
    """Returns verdicts with the splits of the images."""
    table = blocks.load([block], blocks.VERDICTS)
    return blocks.dump(with_column(table, "split", splits.all, splits.numbers_of(table["name"])))


def with_column(verdicts: pa.Table, column: str, splits: Sequence[str], numbers: IntArray) -> pa.Table:
    """Returns verdicts with the names of splits in a column; null where the number is `NO_SPLIT`."""
    names = pa.array([blocks.to_bytes(name) for name in splits], pa.binary())
    at = verdicts.schema.get_field_index(column)
    values = names.take(pa.array(numbers, mask=numbers == NO_SPLIT))
    return verdicts.set_column(at, verdicts.schema.field(column), values)


def may_share_files(inputs: Sequence[str], splits: Sequence[str]) -> bool:
    """Returns whether a file could match inputs of two splits, of which none contains the other.

    Such inputs are patterns, or a pattern and a directory, that begin in the same directory.

    >>> (
    ...     may_share_files(["a/*1.jpg", "a/*2.jpg"], ["x", "y"]),
    ...     may_share_files(["a/*1.jpg", "b/*"], ["x", "y"]),
    ... )
    (True, False)
    """
    starts = [input_paths.root(path) if input_paths.is_pattern(path) else path for path in inputs]
    roots = [f"{start.rstrip('/')}/".lstrip("/") for start in starts]
    numbered = list(enumerate(zip(roots, splits, strict=True)))
    return any(
        split != other_split and (root.startswith(other) or other.startswith(root))
        for number, (root, split) in numbered
        for _, (other, other_split) in numbered[:number]
    )


class SplitCheck(NamedTuple):
    """Refuses the files of an input that belong to inputs of other splits too."""

    path: str = ""  # of the input
    others: tuple[str, ...] = ()  # the inputs of other splits, if they may have files in common

    @classmethod
    def of(cls, number: int, inputs: Sequence[str], splits: Sequence[str]) -> "SplitCheck":
        """Returns the check for the files of one input.

        Args:
          number: the number of the input.
          inputs: the paths of all inputs.
          splits: the split of each input; () if there are no splits.
        """
        if not splits or not may_share_files(inputs, splits):
            return cls()
        others = (path for path, split in zip(inputs, splits, strict=True) if split != splits[number])
        return cls(inputs[number], tuple(others))

    def refuse_shared(self, path: str) -> None:
        """Raises UsageError if a file of the input belongs to one of the others."""
        for other in self.others:
            if _covers(other, path):
                raise UsageError(
                    f"--split: inputs of two splits must not share files; {shown(path)} is in {shown(self.path)} and in "
                    f"{shown(other)}. Change one of them"
                )


def _covers(given: str, path: str) -> bool:
    if input_paths.is_pattern(given):
        return input_paths.matches(path, given)
    return path == given or path.startswith(f"{given.rstrip('/')}/")


def set_of(numbers: Iterable[int]) -> int:
    """Returns a set of splits, given their numbers, as an integer: bit i stands for split i."""
    return sum(1 << number for number in set(numbers))
