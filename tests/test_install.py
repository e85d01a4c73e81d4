"""Installing where there is no compiler: the package must come out whole, without the native core."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not (ROOT / "CMakeLists.txt").exists(), reason="needs the project's source tree")
def test_a_wheel_is_built_without_a_compiler(tmp_path):
    pytest.importorskip("scikit_build_core", reason="the build backend is part of the test extra")
    pytest.importorskip("nanobind", reason="the build needs nanobind, part of the test extra")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)),
            *("-C", f"build-dir={tmp_path / 'build'}", str(ROOT)),
        ],
        env={**os.environ, "CC": "/bin/false", "CXX": "/bin/false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "sememe/kernels/native.py" in names
    assert any(name.startswith("sememe/planner/report_template/") for name in names)
    assert not [name for name in names if "_native" in name or name.endswith((".cpp", ".h"))]
