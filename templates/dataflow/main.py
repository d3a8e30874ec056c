"""What the launcher of flex templates runs: all of it is in the package that the image holds."""

from beam_dedup.dataflow.launcher import entry

if __name__ == "__main__":
    entry()
