"""Starts the program of the flex template. All of its code is in the package that the image contains."""

from beam_dedup.dataflow.launcher import entry

if __name__ == "__main__":
    entry()
