"""Starts the launcher of the package in the image. The launcher of flex templates runs this file."""

from beam_dedup.dataflow.launcher import entry

if __name__ == "__main__":
    entry()
