"""The C library of the installed package, through ctypes: its transforms are Python's, to the last byte of JSON."""

from __future__ import annotations

import ctypes
from importlib import metadata
from pathlib import Path

import fastretina
import numpy as np
import pytest
from fastretina import Transform


@pytest.fixture(scope="module")
def library():
    folder = Path(str(metadata.distribution("fastretina").locate_file("fastretina/lib")))
    names = sorted(folder.glob("libfastretina.*so*")) + sorted(folder.glob("libfastretina.*dylib"))
    if not names:
        pytest.skip(f"{folder} holds no shared library")
    loaded = ctypes.CDLL(str(names[0]))
    loaded.fastretina_version.restype = ctypes.c_char_p
    loaded.fastretina_last_error.restype = ctypes.c_char_p
    loaded.fastretina_transform_destroy.argtypes = [ctypes.c_void_p]
    return loaded


class CTransform:
    """A transform of the C library."""

    def __init__(self, library):
        self.library, self.handle = library, ctypes.c_void_p()
        assert library.fastretina_transform_create(ctypes.byref(self.handle)) == 0

    def __del__(self):
        self.library.fastretina_transform_destroy(self.handle)

    def read(self, text):
        return self.library.fastretina_transform_from_json(text.encode(), ctypes.c_size_t(len(text)), self.handle)

    def json(self):
        size, buffer = ctypes.c_size_t(), ctypes.create_string_buffer(1 << 16)
        done = self.library.fastretina_transform_to_json(
            self.handle, buffer, ctypes.c_size_t(len(buffer)), ctypes.byref(size)
        )
        assert done == 0, self.library.fastretina_last_error()
        return buffer.raw[: size.value].decode()

    def __call__(self, points):
        xy = np.ascontiguousarray(points, dtype=np.float64)
        out = np.empty_like(xy)
        pointer = ctypes.POINTER(ctypes.c_double)
        done = self.library.fastretina_transform_points(
            self.handle, xy.ctypes.data_as(pointer), ctypes.c_size_t(len(xy)), out.ctypes.data_as(pointer)
        )
        assert done == 0, self.library.fastretina_last_error()
        return out


def transforms():
    rng = np.random.default_rng(0)
    affine = Transform.from_matrix([[1.1, -0.2, 7.5], [0.15, 0.9, -3.25]])
    homography = Transform("homography", [[1.02, 0.01, 5], [-0.03, 0.98, 1 / 3], [1e-5, -2e-6, 1]])
    quadratic = Transform("quadratic", [[5, 1.01, 0.02, 1e-5, -2e-5, 0], [-3, -0.02, 0.99, 0, 1e-5, 3e-5]])
    dense = Transform("dense", rng.uniform(-4, 4, (4, 5, 2)), rectangle=(-50, -40.5, 650, 490))
    return {
        "identity": Transform.identity(),
        "affine": affine,
        "homography": homography,
        "quadratic": quadratic,
        "dense": dense,
        "inverse of a quadratic": quadratic.inverse,
        "dense @ homography": dense @ homography,
        "its inverse": (dense @ homography).inverse,
        "homography @ quadratic": homography @ quadratic,
    }


def test_the_version_is_the_packages(library):
    assert library.fastretina_version().decode() == fastretina.__version__


@pytest.mark.parametrize("name", transforms())
def test_transforms_are_the_same(library, name):
    expected, here = transforms()[name], CTransform(library)
    assert here.read(expected.to_json()) == 0, library.fastretina_last_error()
    assert here.json() == expected.to_json()
    assert Transform.from_json(here.json()) == expected
    points = np.random.default_rng(1).uniform(0, 600, (200, 2))
    # NumPy's products fuse and order otherwise; Newton's method stops below 1e-9 px, relative to the coordinate
    np.testing.assert_allclose(here(points), expected(points), rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize("text", ["", "{}", '{"status": "no_content", "transform": null}', '{"kind": "dense"}'])
def test_what_is_no_transform_is_refused_by_both(library, text):
    with pytest.raises(fastretina.InvalidInput):
        Transform.from_json(text)
    here = CTransform(library)
    assert here.read(text) == 1
    assert library.fastretina_last_error()
