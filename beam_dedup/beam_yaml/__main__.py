"""Prints the path of the file that makes the transforms known to a Beam YAML pipeline."""

import os

if __name__ == "__main__":
    print(os.path.join(os.path.dirname(os.path.abspath(__file__)), "providers.yaml"))
