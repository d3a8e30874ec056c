#!/bin/sh
# Fills a directory with the files that the Dockerfiles copy, and no others: the wheel, the pins with their
# hashes, the install script.
#
#   context.sh DIRECTORY
#
# DIRECTORY must be empty or not exist. The variable PYTHON names a Python with venv (default python3).
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
if [ -n "$(ls -A "$1" 2>/dev/null)" ]; then
  echo "$1 is not empty: its files would go into the images; name an empty directory" >&2
  exit 1
fi
mkdir -p "$1"
context=$(cd "$1" && pwd)
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT

cd "$root"
cp -R setup.py pyproject.toml LICENSE beam_dedup transforms "$source" # a build writes files beside its sources
find "$source" -name __pycache__ -type d -prune -exec rm -rf {} +
"${PYTHON:-python3}" -m venv "$source/venv"
"$source/venv/bin/python" -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir "$context" "$source"
cp templates/image/hashes.txt templates/image/install.sh templates/image/sbom.py templates/dataflow/main.py "$context"
