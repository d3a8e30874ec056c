#!/bin/sh
# Fills a folder with all that the Dockerfiles copy, and nothing else: the wheel, the pins, what installs them.
#
#   context.sh FOLDER
#
# PYTHON names a Python with venv.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
if [ -n "$(ls -A "$1" 2>/dev/null)" ]; then
  echo "$1 has something in it already: what is there would go into the images" >&2
  exit 1
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT

cd "$root"
cp -R setup.py pyproject.toml LICENSE beam_dedup transforms "$source" # a build leaves traces: not here
find "$source" -name __pycache__ -type d -prune -exec rm -rf {} +
"${PYTHON:-python3}" -m venv "$source/venv"
"$source/venv/bin/python" -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir "$folder" "$source"
cp requirements.txt "$folder/requirements.txt"
cp templates/image/requirements.txt "$folder/requirements-image.txt"
cp templates/image/install.sh templates/dataflow/main.py "$folder"
