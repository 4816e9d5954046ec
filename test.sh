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
unset WAYLAND_DISPLAY
export QT_QPA_PLATFORM=xcb
# else each test process compiles all modules again (containers often set it)
unset PYTHONDONTWRITEBYTECODE
# in the order of the folders: sorted by their number of tests, long files would be last
.venv/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
    --no-loadscope-reorder "$@"
