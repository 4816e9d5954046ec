#!/bin/sh
# Installs everything in .venv and prints the benchmark tables. Arguments select tables.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

setup test
under_xvfb .venv/bin/python tests/benchmarks/run.py "$@"
