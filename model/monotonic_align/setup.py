"""Builds core.pyx beside itself: python setup.py build_ext --inplace. With OpenMP where the compiler has it."""

import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError

FLAGS = ["/O2"] if sys.platform == "win32" else ["-O3"]
OPENMP = ["/openmp"] if sys.platform == "win32" else ["-fopenmp"]


class Build(build_ext):
    """Build with OpenMP, or, where that fails, without: then the items of a batch are searched one after another."""

    def build_extension(self, ext):
        """Raises what the compiler raises if it cannot build without OpenMP either."""
        ext.extra_compile_args, ext.extra_link_args = FLAGS + OPENMP, OPENMP
        try:
            super().build_extension(ext)
        except CCompilerError:
            print("no OpenMP here: the search is built without it, for one thread", file=sys.stderr)
            ext.extra_compile_args, ext.extra_link_args = FLAGS, []
            super().build_extension(ext)


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    extensions = cythonize([Extension("core", ["core.pyx"])])
    setup(name="monotonic_align", packages=[], py_modules=[], ext_modules=extensions, cmdclass={"build_ext": Build})
