"""Runs `python -m beam_dedup`, for a checkout; the documented command is `dedup`."""

from beam_dedup.cli import entry

if __name__ == "__main__":
    entry()
