"""Runs one peer that is a Python library, with any Python that has it: this file imports nothing else.

    PYTHON benchmarks/peer_runs.py imagehash|imagededup|perception FOLDER OUT.json [-j 2]
    PYTHON benchmarks/peer_runs.py versions

Writes {"groups": [[name, ...], ...]} with the groups (or pairs) that the peer finds with its own default settings.
`versions` prints the versions of the installed peers as JSON.
"""

import argparse
import importlib.metadata
import json
import os
from collections.abc import Callable

Groups = list[list[str]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=[*PEERS, "versions"], help="library to run")
    parser.add_argument("folder", nargs="?", default="", help="directory of images")
    parser.add_argument("out", nargs="?", default="", help="JSON file to write")
    parser.add_argument(
        "-j", "--jobs", type=int, default=1, help="processes, if the library has such an option"
    )
    options = parser.parse_args()
    if options.peer == "versions":
        print(json.dumps(versions()))
        return
    groups = PEERS[options.peer](options.folder, options.jobs)
    with open(options.out, "w", encoding="utf-8") as file:
        json.dump({"groups": groups}, file)


def versions() -> dict[str, str]:
    """Returns the versions of the installed peers."""
    found = {}
    for name in PEERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def imagehash_loop(folder: str, _: int) -> Groups:
    """Hashes file after file with PHash, as most scripts do. Compares nothing, and so returns no groups."""
    import imagehash
    from PIL import Image

    for name in files_below(folder):
        with Image.open(os.path.join(folder, name)) as image:
            imagehash.phash(image)
    return []


def imagededup(folder: str, jobs: int) -> Groups:
    """Returns the pairs that PHash finds with its default distance of 10 bits."""
    from imagededup.methods import PHash

    near = PHash(verbose=False).find_duplicates(
        image_dir=folder, recursive=True, num_enc_workers=jobs, num_dist_workers=jobs
    )
    return [[name, other] for name, others in near.items() for other in others if name < other]


def perception(folder: str, _: int) -> Groups:
    """Returns the pairs that PHash of 16 x 16 finds within 0.2: the documentation recommends it, there is no default."""
    from perception import hashers, tools

    files = [os.path.join(folder, name) for name in files_below(folder)]
    pairs = tools.deduplicate(files=files, hashers=[(hashers.PHash(hash_size=16), 0.2)])
    return [[os.path.relpath(path, folder) for path in pair] for pair in pairs]


PEERS: dict[str, Callable[[str, int], Groups]] = {
    "imagehash": imagehash_loop,
    "imagededup": imagededup,
    "perception": perception,
}


def files_below(folder: str) -> list[str]:
    """Returns all files below a directory, as sorted relative paths."""
    paths = (os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)
    return sorted(os.path.relpath(path, folder) for path in paths)


if __name__ == "__main__":
    main()
