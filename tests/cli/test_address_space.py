"""A command under a limit of memory ends with a message."""

import subprocess
import sys
from functools import partial

import pytest

MB = 2**20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")
def test_limit_that_is_too_small_for_the_libraries_is_reported(tmp_path):
    import resource

    # at 620 MB, OpenBLAS repeated a failed allocation for ever
    limit = partial(resource.setrlimit, resource.RLIMIT_AS, (620 * MB, 620 * MB))
    command = [sys.executable, "-c", "from napari_uhrseg.cli import app; app()"]
    done = subprocess.run(
        [*command, "areas", str(tmp_path / "labels.zarr")],
        preexec_fn=limit, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "may use 620 MB of main memory" in done.stderr
    assert "ulimit -v" in done.stderr
