#!/bin/sh
# What is in every image, made in one place: a clean environment with exactly the pinned requirements and our wheel.
#
#   install.sh ENVIRONMENT FOLDER
#
# FOLDER is what context.sh has filled. Nothing is compiled, so there need not be a compiler, and none is left: all comes as
# wheels, but for one package that is Python alone and published as source only.
set -eu

environment=$1
folder=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

if [ -e "$environment" ]; then
  echo "$environment is there already: the environment has to be a new one" >&2
  exit 1
fi
"${PYTHON:-python3}" -m venv "$environment"
python=$environment/bin/python
"$python" -m pip install --quiet --no-deps --only-binary :all: --no-binary google-apitools \
  -r "$folder/requirements.txt" -r "$folder/requirements-image.txt"
"$python" -m pip install --quiet --no-deps "$folder"/beam_dedup-*.whl
"$python" -m pip check
"$environment/bin/dedup" --version
