#!/bin/sh
# Sets everything up and runs the tests, with real windows on an unseen display.
# Arguments go to pytest: sh test.sh tests/io -k geotiff
set -eu
cd "$(dirname "$0")"
. scripts/setup.sh

setup test
under_xvfb .venv/bin/python -m pytest "$@"
