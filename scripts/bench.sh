#!/bin/sh
# Sets everything up and prints the benchmarks' tables; arguments choose some.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh

setup test
under_xvfb .venv/bin/python tests/benchmarks/run.py "$@"
