#!/bin/sh
# Creates the environment that every image contains: exactly the pinned requirements, whose files must have the hashes in
# hashes.txt, and our wheel. Writes what it contains to ENVIRONMENT/sbom.cdx.json.
#
#   install.sh ENVIRONMENT CONTEXT
#
# ENVIRONMENT is the directory to create. CONTEXT is a directory that context.sh has filled. Needs no compiler, and so leaves
# none behind: all packages are installed from wheels except one, which is pure Python and published as source only.
set -eu

environment=$1
context=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

if [ -e "$environment" ]; then
  echo "$environment already exists: name a directory that does not exist" >&2
  exit 1
fi
"${PYTHON:-python3}" -m venv "$environment"
python=$environment/bin/python
"$python" -m pip install --quiet --no-deps --only-binary :all: --no-binary google-apitools \
  --require-hashes -r "$context/hashes.txt"
"$python" -m pip install --quiet --no-deps "$context"/beam_dedup-*.whl
"$python" -m pip check
"$python" "$context/sbom.py" >"$environment/sbom.cdx.json"
"$environment/bin/dedup" --version
