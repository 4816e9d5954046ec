#!/bin/sh
# Installs everything in .venv and runs the tests, with real windows on a virtual display.
# Arguments are passed to pytest: sh test.sh tests/io -k geotiff
set -eu
cd "$(dirname "$0")"
. scripts/setup.sh

setup test
# several threads per network make the tests much slower on a busy machine
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# each test process has its own virtual display
env -u WAYLAND_DISPLAY QT_QPA_PLATFORM=xcb .venv/bin/python -m pytest \
    --numprocesses auto --maxprocesses 4 --dist loadfile "$@"
