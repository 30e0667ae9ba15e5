"""The build backend: scikit-build-core, and Clang from the `ziglang` wheel where no C++ compiler is installed.

https://peps.python.org/pep-0517/ says what each function is for.
"""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scikit_build_core import build as cmake_build
from scikit_build_core.build import build_sdist, get_requires_for_build_sdist, prepare_metadata_for_build_wheel

__all__ = [
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_wheel",
]

COMPILERS = ("c++", "g++", "clang++")
ZIG = "ziglang>=0.13,<0.16"


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """CMake and Ninja where they are missing, and `ziglang` where there is no compiler."""
    requirements = cmake_build.get_requires_for_build_wheel(config_settings)
    return requirements if has_compiler() else [*requirements, ZIG]


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """Build the wheel with the compiler of this machine, else with the one of `ziglang`."""
    if has_compiler():
        return cmake_build.build_wheel(wheel_directory, config_settings, metadata_directory)
    with zig_compiler():
        return cmake_build.build_wheel(wheel_directory, config_settings, metadata_directory)


def has_compiler() -> bool:
    """Whether CXX names a compiler, or one lies on the path. Windows has its own way to find one, which CMake knows."""
    return sys.platform == "win32" or bool(os.environ.get("CXX")) or any(map(shutil.which, COMPILERS))


@contextmanager
def zig_compiler() -> Iterator[None]:
    """Scripts named as CMake expects its tools: inside the block CXX, CC and CMAKE_ARGS point to them.

    `-mcpu=baseline`: zig otherwise compiles for the processor that it runs on, and the portable code would be none.
    """
    import ziglang  # type: ignore[import-not-found, unused-ignore]

    zig = Path(ziglang.__file__).parent / "zig"
    commands = {"c++": "c++ -mcpu=baseline", "cc": "cc -mcpu=baseline", "ar": "ar", "ranlib": "ranlib"}
    with tempfile.TemporaryDirectory() as folder:
        scripts = {name: Path(folder) / f"zig-{name}" for name in commands}
        for name, script in scripts.items():
            script.write_text(f'#!/bin/sh\nexec "{zig}" {commands[name]} "$@"\n')
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        # CMake takes compilers from the environment, but not the tools that make archives.
        archives = f"-DCMAKE_AR={scripts['ar']} -DCMAKE_RANLIB={scripts['ranlib']}"
        changes = {
            "CXX": str(scripts["c++"]),
            "CC": str(scripts["cc"]),
            "CMAKE_ARGS": f"{os.environ.get('CMAKE_ARGS', '')} {archives}".strip(),
        }
        before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
