"""The set-up script on machines that lack something, with stand-ins for its tools."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "cat", "cksum", "dirname", "grep", "mktemp", "rm", "env")


@pytest.fixture
def machine(tmp_path):
    """A checkout on a machine with only a few tools; returns how to run there."""
    checkout, tools = tmp_path / "checkout", tmp_path / "bin"
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    for name in ("pyproject.toml", "test.sh", "demo.sh"):
        shutil.copy(ROOT / name, checkout)
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))

    def run(script: str = "test.sh", **stand_ins: str) -> subprocess.CompletedProcess:
        for name, body in stand_ins.items():
            path = tools / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return subprocess.run(
            ["sh", script],
            cwd=checkout,
            env={"PATH": str(tools), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


DEBIAN = {"dpkg": "exit 1", "apt_get": 'echo "apt-get $*" >>"$TMPDIR/apt"'}


def test_packages_are_named_where_they_cannot_be_installed(machine):
    done = machine(**DEBIAN, id="echo 1000", sudo="exit 1")
    assert done.returncode == 1
    assert "sudo apt-get install -y --no-install-recommends" in done.stderr
    for package in ("xvfb", "libegl1", "libxcb-cursor0"):
        assert package in done.stderr


def test_root_installs_what_is_missing_and_no_more(machine, tmp_path):
    there = 'case $2 in xvfb) ;; *) echo "Status: install ok installed" ;; esac'
    machine(dpkg=there, apt_get=DEBIAN["apt_get"], id="echo 0", python3="exit 1")
    assert (tmp_path / "apt").read_text().splitlines() == [
        "apt-get update -qq",
        "apt-get install -y -qq --no-install-recommends xvfb",
    ]


def test_an_old_python_is_not_taken(machine):
    there = {"dpkg": 'echo "Status: install ok installed"', "apt_get": "exit 0"}
    done = machine(**there, python3="exit 1")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr


def test_other_systems_are_told_about_xvfb(machine):
    done = machine("demo.sh")
    assert done.returncode == 1
    assert "Install Xvfb" in done.stderr


def test_what_is_ready_is_not_installed_again(machine, tmp_path):
    venv = tmp_path / "checkout" / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").write_text('#!/bin/sh\necho "python $*"\n')
    (venv / "bin" / "python").chmod(0o755)
    sums = subprocess.run(
        ["cksum"],
        stdin=(ROOT / "pyproject.toml").open(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    (venv / ".ready-dev").write_text(f"{sums} {tmp_path / 'checkout'}\n")
    done = machine(dpkg='echo "Status: install ok installed"', apt_get="exit 1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("python -m pytest ")
    assert "Installing" not in done.stderr
