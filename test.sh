#!/bin/sh
# Sets everything up and runs the tests, with real windows on an unseen display.
# Arguments go to pytest: sh test.sh tests/io -k geotiff
set -eu
cd "$(dirname "$0")"
. scripts/setup.sh

setup test
# on a busy machine a network's threads wait for each other, and tests for minutes
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# each process has an unseen display of its own
env -u WAYLAND_DISPLAY QT_QPA_PLATFORM=xcb .venv/bin/python -m pytest \
    --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
