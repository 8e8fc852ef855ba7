"""Builds core.pyx beside itself: python setup.py build_ext --inplace."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent)
    extensions = cythonize([Extension("core", ["core.pyx"])])
    setup(name="monotonic_align", packages=[], py_modules=[], ext_modules=extensions)
