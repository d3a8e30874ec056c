"""Finds for each content the splits of the contents within k of it, without a list of the pairs.

There may be as many pairs as the square of the number of contents; their splits need one integer per content. A set of
splits is one integer: bit i stands for split i.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core.codes import IntArray
from beam_dedup.core.leaks import NEIGHBOURS, SplitSets
from beam_dedup.core.matching.near_pairs import near_pairs
from beam_dedup.core.matching.plan import Key
from beam_dedup.core.matching.rounds import CodeShard
from beam_dedup.core.matching.selection import representatives
from beam_dedup.core.thresholds import Thresholds


def class_sets(codes: pa.Table, twins: pa.Table, contents: pa.Table) -> pa.Table:
    """Returns the splits of the representatives of a digest shard and of their twins together, as `NEIGHBOURS`.

    Args:
      codes: the `CODES` of the representatives.
      twins: their `TWINS`.
      contents: the `CONTENTS` of the digest shard.
    """
    of_contents = SplitSets.of_contents(contents)
    own = pa.table([codes["digest"], pa.array(of_contents.of_digests(codes["digest"]))], NEIGHBOURS)
    of_twins = [twins["representative"], pa.array(of_contents.of_digests(twins["digest"]))]
    both = pa.concat_tables([own, pa.table(of_twins, NEIGHBOURS)])
    return pa.table(list(SplitSets.of_neighbours(both)), NEIGHBOURS)


def neighbours_in_shard(
    shard: CodeShard,
    sets: pa.Table,
    thresholds: Thresholds,
    keys: tuple[Key, ...] | None,
    threads: int = 1,
    whole: bool = False,
) -> pa.Table:
    """Returns the splits of the contents within k of each content of a code shard, and its own, as `NEIGHBOURS`.

    Args:
      shard: the codes; contents are numbered by digest.
      sets: what `class_sets` returns for these contents. Contents of which all images are known are in no split.
      thresholds: when two codes are within k.
      keys: the keys of the code shard; None for all.
      threads: number of keys that are searched at a time.
      whole: whether the shard has all codes of all contents, so that contents with equal codes need to be compared once.
    """
    digests = shard.images["digest"]
    itself = np.arange(len(digests))
    codes = shard.codes.of(~shard.kept)
    label = representatives(codes, shard.kept) if whole else itself
    of_class = np.zeros(len(digests), np.int64)
    np.bitwise_or.at(of_class, label, SplitSets.of_neighbours(sets).of_digests(digests))
    found: IntArray = of_class.copy()
    compared = codes.of(label == itself)
    for pairs in near_pairs(compared, thresholds, keys, threads=threads):
        a, b = compared.image[pairs.a], compared.image[pairs.b]
        for one, other in ((a, b), (b, a)):
            is_new = (of_class[other] & ~found[one]) != 0
            np.bitwise_or.at(found, one[is_new], of_class[other[is_new]])
    found = found[label]
    is_any = pa.array(found != 0)
    return pa.table([digests, pa.array(found)], NEIGHBOURS).filter(is_any)


def with_twins(neighbours: pa.Table, twins: pa.Table) -> pa.Table:
    """Returns the `NEIGHBOURS` of a digest shard with those of `TWINS`, which are those of their representatives."""
    of_twins = SplitSets.of_neighbours(neighbours).of_digests(twins["representative"])
    return pa.concat_tables([neighbours, pa.table([twins["digest"], pa.array(of_twins)], NEIGHBOURS)])


def some_of(sets: pa.Table, codes: pa.Table) -> pa.Table:
    """Returns the rows of `sets` about the contents of some codes."""
    return sets.filter(pc.is_in(sets["digest"], codes["digest"].combine_chunks()))
