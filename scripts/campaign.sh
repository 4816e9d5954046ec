#!/bin/sh
# Installs everything in .venv and runs the campaign of faults. NAME=VALUE are options.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

setup test
PYTHONPATH="src:tests" OMP_NUM_THREADS=1 \
    exec .venv/bin/python -W ignore -m campaign "$@"
