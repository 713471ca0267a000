"""Files: round trips to the last bit, whole files or none, and nothing trusted."""

import dataclasses
import io
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
import tracemalloc
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxgmm
from jaxgmm.host.arrays import Names
from jaxgmm.persistence import archive, layout, load, save
from tests import cases

FAMILIES = list(jaxgmm.FAMILIES)
MIXTURE = cases.mixture("full", n_components=2, n_features=2, dtype=np.float32)[0]


def members(path):
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def written(path, contents):
    with open(path, "wb") as file:
        archive.write(file, contents)
    return path


def rewritten(path, change=None, **arrays):
    """The file at a path with another header, or with other numbers in arrays, and checksums to match."""
    contents = members(path)
    for name, numbers in arrays.items():
        old = contents[f"{name}.npy"]
        numbers = np.asarray(numbers, np.float32).tobytes()
        contents[f"{name}.npy"] = old[: len(old) - len(numbers)] + numbers
    header = json.loads(contents["header.json"])
    contents["header.json"] = json.dumps((change or (lambda header: header))(header)).encode()
    return written(path, contents)


def assert_same(one, other):
    assert type(one) is type(other)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert isinstance(a, jaxgmm.Status) == isinstance(b, jaxgmm.Status)
        assert np.asarray(a).dtype == np.asarray(b).dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture(scope="module")
def fitted():
    """A fit with restarts, and two stacked climbs."""
    x, _ = cases.rows(dtype=np.float32)
    keys = jax.random.split(jax.random.key(0), 2)
    alone = jaxgmm.fit(jax.random.key(0), x, 2, n_init=3, max_iter=10)
    stacked = jax.vmap(lambda key: jaxgmm.run(jaxgmm.EM(), jaxgmm.initialize(key, x, 2), x, max_iter=4))(keys)
    return alone, stacked


@pytest.fixture
def path(tmp_path):
    save(tmp_path / "mixture.npz", MIXTURE)
    return tmp_path / "mixture.npz"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.needs_x64)])
def test_mixtures_of_every_family_return_to_the_last_bit(family, dtype, tmp_path):
    weights, means = np.asarray([0.25, 0.75, 0.0], dtype), np.asarray([[1e-30, 2.0], [-3.0, 4.0], [0.1, 0.2]], dtype)
    covariances = np.broadcast_to(np.eye(2), (3, 2, 2)).astype(dtype)
    mixture = jaxgmm.project(jaxgmm.make_mixture(weights, means, covariances), family)
    assert np.isneginf(mixture.log_weights[2])
    save(str(tmp_path / "mixture.npz"), mixture)
    assert_same(load(tmp_path / "mixture.npz"), mixture)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mixture)
    save(tmp_path / "stack", stacked)
    assert_same(load(str(tmp_path / "stack")), stacked)


def test_fits_return_to_the_last_bit_with_restarts_history_status_and_names(fitted, tmp_path):
    alone, stacked = fitted
    named = alone._replace(feature_names=Names(("length", "größe", "\udc80")))
    failed = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), alone.mixture)
    failed = alone._replace(mixture=failed, objective=jnp.float32(jnp.nan), status=jaxgmm.Status.NONFINITE)
    for fit in (alone, named, stacked, failed):
        save(tmp_path / "fit.npz", fit)
        assert_same(load(tmp_path / "fit.npz"), fit)
    assert load(tmp_path / "fit.npz").status is jaxgmm.Status.NONFINITE


def test_equal_values_make_equal_files(fitted, tmp_path):
    for name in ("one", "other"):
        save(tmp_path / name, fitted[0])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    big_endian = jax.tree.map(lambda leaf: np.asarray(leaf).astype(">f4", order="F"), MIXTURE)
    save(tmp_path / "one", big_endian)
    save(tmp_path / "other", MIXTURE)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_numpy_alone_reads_a_file(fitted, tmp_path):
    save(tmp_path / "fit.npz", fitted[0])
    with np.load(tmp_path / "fit.npz", allow_pickle=False) as opened:
        header = json.loads(opened["header.json"])
        assert (header["kind"], header["covariance_type"]) == ("result", "full")
        assert header["arrays"] == {
            leaf: [opened[leaf].dtype.str, list(opened[leaf].shape)] for leaf in opened.files if leaf != "header.json"
        }
        np.testing.assert_array_equal(opened["mixture.means"], fitted[0].mixture.means)


def test_every_field_of_a_fit_is_kept(fitted, tmp_path):
    """A field added to FitResult must not be lost."""
    save(tmp_path / "fit.npz", fitted[0])
    kept = {name.split(".")[0] for name in members(tmp_path / "fit.npz") if name.endswith(".npy")}
    assert kept | {"header", "feature_names"} >= set(jaxgmm.FitResult._fields)


def test_a_climb_resumed_from_a_file_is_the_uninterrupted_one(tmp_path):
    start, x, weights = cases.drawn_rows("full", dtype=np.float32, n_components=2, n_features=2)

    def climb(start):
        return jaxgmm.run(jaxgmm.EM(), start, x, weights, max_iter=5, tol=0.0)

    half = climb(start)
    save(tmp_path / "half.npz", half)
    resumed, whole = climb(load(tmp_path / "half.npz").mixture), climb(half.mixture)
    assert_same(resumed, whole)
    uninterrupted = jaxgmm.run(jaxgmm.EM(), start, x, weights, max_iter=10, tol=0.0)
    np.testing.assert_allclose(resumed.history, uninterrupted.history[5:], rtol=1e-6)
    np.testing.assert_allclose(resumed.mixture.means, uninterrupted.mixture.means, rtol=1e-5, atol=1e-5)


@pytest.mark.needs_x64
def test_float64_is_not_rounded_unless_asked(tmp_path):
    mixture, _ = cases.mixture("diag", n_components=2, n_features=2)
    save(tmp_path / "wide.npz", mixture)
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"wide.npz.*float64.*jax_enable_x64.*dtype='float32'"):
            load(tmp_path / "wide.npz")
        with pytest.raises(ValueError, match="jax_enable_x64"):
            load(tmp_path / "wide.npz", dtype="float64")
        rounded = load(tmp_path / "wide.npz", dtype="float32")
    assert rounded.means.dtype == jnp.float32
    np.testing.assert_array_equal(rounded.means, np.asarray(mixture.means, np.float32))
    save(tmp_path / "narrow.npz", rounded)
    assert load(tmp_path / "narrow.npz", dtype=np.float64).means.dtype == jnp.float64
    tiny = jaxgmm.make_mixture([1.0], np.zeros((1, 2)), np.full((1, 2), 1e-100), covariance_type="diag")
    save(tmp_path / "tiny.npz", tiny)
    with pytest.raises(ValueError, match="not positive definite"):
        load(tmp_path / "tiny.npz", dtype="float32")


@pytest.mark.needs_x64
def test_a_fits_status_is_kept_where_float64_is_off(fitted, tmp_path):
    save(tmp_path / "fit.npz", fitted[0])
    with jax.enable_x64(False):
        assert_same(load(tmp_path / "fit.npz"), fitted[0])


def broken(**changes):
    fields = dict(log_weights=MIXTURE.log_weights, means=MIXTURE.means, covs=MIXTURE.covs, family=MIXTURE.family)
    return jaxgmm.Mixture(**(fields | changes))


@pytest.mark.parametrize(
    ("value", "error", "match"),
    [
        ([1, 2], TypeError, "Mixture or a FitResult, not list"),
        (broken(means=MIXTURE.means.at[1, 0].set(jnp.nan)), ValueError, "component 1 has a mean that is not finite"),
        (broken(log_weights=MIXTURE.log_weights + 0.3), ValueError, "log-weight|sum to 1"),
        (broken(covs=jax.tree.map(lambda factor: -factor, MIXTURE.covs)), ValueError, "not positive definite"),
        (broken(covs=jax.tree.map(jnp.ones_like, MIXTURE.covs)), ValueError, "above its diagonal"),
        (broken(means=MIXTURE.means[:, :1]), ValueError, "must be float32 of shape"),
        (jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), MIXTURE), ValueError, "bfloat16"),
        (broken(family="full"), (ValueError, AttributeError), "family|name"),
    ],
)
def test_what_could_not_be_read_back_is_not_saved(value, error, match, tmp_path):
    with pytest.raises(error, match=match):
        save(tmp_path / "new.npz", value)
    assert not list(tmp_path.iterdir())


def test_a_result_that_could_not_be_read_back_is_not_saved(fitted, tmp_path):
    result, long, objective = fitted[0], "x" * (1 << 20), jnp.asarray(jnp.nan, jnp.float32)
    changes = [
        (dict(feature_names=Names((long, "b", "c"))), f"feature_names take {1 << 20}|there is room for"),
        (dict(feature_names=Names(("a", "b", "c", "d", "e"))), "5 feature_names for 3 columns|do not belong together"),
        (dict(objective=objective), "objective is not finite, though the status is not NONFINITE"),
        (dict(history=jnp.zeros((3, 3))), "history|do not belong together"),
        (dict(mixture=dataclasses.replace(result.mixture, family=Renamed())), "'renamed' is not in jaxgmm.FAMILIES"),
    ]
    for change, match in changes:
        with pytest.raises(ValueError, match=match):
            save(tmp_path / "new.npz", result._replace(**change))
    assert not list(tmp_path.iterdir())


class Renamed:
    """A family that another process would not know."""

    name, statistic, update = "renamed", None, None


def test_a_traced_value_is_refused(tmp_path):
    with pytest.raises(TypeError, match="traced"):
        jax.eval_shape(lambda mixture: save(tmp_path / "new.npz", mixture), MIXTURE)


def test_a_failed_save_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    old = path.read_bytes()

    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        save(path, MIXTURE)
    assert path.read_bytes() == old and list(path.parent.iterdir()) == [path]


def test_links_permissions_and_devices(path):
    link, pipe = path.with_name("link"), path.with_name("pipe")
    link.symlink_to(path.name)
    path.chmod(0o600)
    save(link, MIXTURE)
    assert link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert_same(load(link), MIXTURE)
    os.mkfifo(pipe)
    for other in (pipe, path.parent):
        with pytest.raises(ValueError, match="regular file"):
            save(other, MIXTURE)
        with pytest.raises(ValueError, match="regular file"):
            load(other)
    with pytest.raises(FileNotFoundError):
        load(path.with_name("absent"))
    with pytest.raises(FileNotFoundError):
        save(path.parent / "absent" / "mixture.npz", MIXTURE)


# Hostile files


def entry(leaf, dtype=None, shape=None):
    def change(header):
        old = header["arrays"].get(leaf, ["<f4", [2]])
        header["arrays"][leaf] = [dtype or old[0], old[1] if shape is None else shape]
        return header

    return change


def setting(**entries):
    return lambda header: header | entries


HEADERS = {
    "gigabytes": (entry("means", shape=[1 << 30, 2]), "must be float32 of shape"),
    "consistent gigabytes": (
        setting(
            arrays={
                "log_weights": ["<f4", [1 << 20]],
                "means": ["<f4", [1 << 20, 32]],
                "covs.cholesky": ["<f4", [1 << 20, 32, 32]],
            }
        ),
        "truncated",
    ),
    "beyond 64 bits": (
        setting(
            arrays={
                "log_weights": ["<f4", [(1 << 31) - 1]],
                "means": ["<f4", [(1 << 31) - 1] * 2],
                "covs.cholesky": ["<f4", [(1 << 31) - 1] * 3],
            }
        ),
        "truncated",
    ),
    "beyond any size": (entry("means", shape=[1 << 70, 2]), "impossible shape"),
    "negative": (entry("means", shape=[-2, 2]), "impossible shape"),
    "empty": (entry("means", shape=[0, 2]), "no means"),
    "many axes": (entry("means", shape=[1] * 100), "shape"),
    "a float for a size": (entry("means", shape=[2.0, 2]), "impossible shape"),
    "true for a size": (entry("means", shape=[True, 2]), "impossible shape"),
    "objects": (entry("means", dtype="|O"), "dtypes"),
    "strings": (entry("means", dtype="<U9"), "dtypes"),
    "another dtype": (entry("means", dtype="<f8"), "must be"),
    "integers": (entry("means", dtype="<i4"), "no means"),
    "an extra array": (entry("more"), "the arrays are"),
    "a path": (entry("../../means"), "the arrays are"),
    "no arrays": (setting(arrays={}), "no means"),
    "no list": (setting(arrays=3), "neither a mixture nor"),
    "a fit's kind": (setting(kind="result"), "no means"),
    "another kind": (setting(kind=["mixture"]), "neither a mixture nor"),
    "another family": (setting(covariance_type="diag"), "the arrays are"),
    "an unknown family": (setting(covariance_type={"full": 1}), "covariance_type"),
    "a later version": (setting(version=2), "version 2, and this jaxgmm reads version 1"),
    "version true": (setting(version=True), "not written as"),
    "no version": (setting(version=None), "version"),
    "another format": (setting(format="numpy"), "jaxgmm wrote"),
    "an extra entry": (setting(extra=1), "not written as"),
    "names": (setting(feature_names=["a", "b"]), "not written as"),
    "a list": (lambda header: [header], "jaxgmm wrote"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers_are_refused(case, path):
    change, match = HEADERS[case]
    rewritten(path, change)
    refused(path, match)


def refused(path, match=""):
    """Quickly and with little memory, by one error that names the path."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"(?s){re.escape(repr(str(path)))} cannot be loaded: .*({match})"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def zipped(path, contents, **options):
    with zipfile.ZipFile(path, "w", **options) as opened:
        for name, content in contents:
            opened.writestr(name, content)


def hostile_archives():
    """Names, and functions of a path with a good file that put another there."""

    def compressed(path):
        zipped(path, members(path).items(), compression=zipfile.ZIP_DEFLATED)

    def bomb(path):
        zipped(path, [("header.json", b" " * (1 << 28))], compression=zipfile.ZIP_DEFLATED, compresslevel=1)

    def duplicate(path):
        contents = list(members(path).items())
        with pytest.warns(UserWarning, match="Duplicate"):
            zipped(path, [*contents, contents[-1]])

    def named(path):
        zipped(path, [(f"../../{name}", content) for name, content in members(path).items()])

    def pickled(path):
        np.savez(path, **{"header.json": np.asarray([object()], dtype=object)})

    def pickled_member(path):
        contents, buffer = members(path), io.BytesIO()
        np.save(buffer, np.asarray([object()], dtype=object))
        written(path, contents | {"means.npy": buffer.getvalue()})

    def pickled_within(path):
        # As long as the array it stands for, so that only its own header gives it away.
        contents, buffer = members(path), io.BytesIO()
        np.save(buffer, np.asarray([None], dtype=object))
        content = buffer.getvalue()[: len(contents["means.npy"])]
        written(path, contents | {"means.npy": content.ljust(len(contents["means.npy"]), b".")})

    def another_shape(path):
        contents = members(path)
        written(path, contents | {"means.npy": contents["means.npy"].replace(b"(2, 2)", b"(4, 1)")})

    def swapped(path):
        contents = list(members(path).items())
        written(path, dict([contents[0], *contents[:0:-1]]))

    def missing(path):
        written(path, dict(list(members(path).items())[:-1]))

    def extra(path):
        written(path, members(path) | {"more.npy": b"more"})

    def appended(path):
        path.write_bytes(path.read_bytes() + b"\0")

    def prepended(path):
        path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())

    def commented(path):
        data = path.read_bytes()
        path.write_bytes(data[:-2] + (5).to_bytes(2, "little") + b"hello")

    def sparse(path):
        os.truncate(path, 1 << 40)

    def deep(path):
        written(path, members(path) | {"header.json": b"[" * 100_000})

    def long_header(path):
        written(path, members(path) | {"header.json": b" " * (2 << 20)})

    def deep_version(path):
        version = b"[" * 900 + b"]" * 900
        written(path, members(path) | {"header.json": b'{"format": "jaxgmm", "version": ' + version + b"}"})

    def long_number(path):
        written(path, members(path) | {"header.json": b'{"version": ' + b"9" * 10_000 + b"}"})

    def duplicate_entry(path):
        contents = members(path)
        written(path, contents | {"header.json": contents["header.json"].replace(b"{", b'{"version": 1, ', 1)})

    def nothing(path):
        path.write_bytes(b"")

    def zeros(path):
        path.write_bytes(bytes(len(path.read_bytes())))

    def plain_npy(path):
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))

    return {name: make for name, make in locals().items()}


ARCHIVES = hostile_archives()


@pytest.mark.parametrize("case", ARCHIVES)
def test_hostile_archives_are_refused(case, path):
    ARCHIVES[case](path)
    refused(path)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"means": [[np.nan, 0], [0, 0]]}, "component 0 has a mean"),
        ({"means": [[0, 0], [0, np.inf]]}, "component 1 has a mean"),
        ({"log_weights": [0, np.nan]}, "component 1 has a log-weight"),
        ({"log_weights": [np.inf, 0]}, "component 0 has a log-weight"),
        ({"log_weights": [-np.inf, -np.inf]}, "sum to 1, not 0"),
        ({"log_weights": [-0.1, -0.1]}, "sum to 1, not 1.8"),
        ({"covs.cholesky": [[[1, 0], [0, 0]], [[1, 0], [0, 1]]]}, "component 0 has .* positive definite"),
        ({"covs.cholesky": [[[1, 0], [0, 1]], [[1, 0], [np.nan, 1]]]}, "component 1 has .* not finite"),
        ({"covs.cholesky": [[[1, 9], [0, 1]], [[1, 0], [0, 1]]]}, "component 0 has .* above its diagonal"),
    ],
)
def test_numbers_that_are_no_mixture_are_refused(arrays, match, path):
    rewritten(path, **arrays)
    refused(path, match)


def test_only_a_fit_that_says_it_failed_may_hold_nan(fitted, tmp_path):
    path = tmp_path / "fit.npz"
    save(path, fitted[1])
    rewritten(path, **{"mixture.means": np.full((2, 2, 3), np.nan)})
    refused(path, "component 0 has a mean")
    contents = members(path)
    for status, match in ((7, "status must be one of"), (-1, "status must be one of")):
        content = contents["status.npy"][:-8] + np.asarray([status, 0], "<i4").tobytes()
        written(path, contents | {"status.npy": content})
        refused(path, match)


def test_a_file_truncated_anywhere_is_refused(path):
    data = path.read_bytes()
    for length in range(0, len(data), 13):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="cannot be loaded"):
            load(path)


def test_any_changed_byte_is_noticed(path):
    data = path.read_bytes()
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        with pytest.raises(ValueError, match="cannot be loaded"):
            load(path)


# Fuzz: what is loaded is what would be saved, byte for byte; anything else is refused.


@st.composite
def edits(draw):
    """Members of a good file, changed here and there, with checksums to match."""
    contents = draw(st.sampled_from(_GOOD))
    names, contents = list(contents), dict(contents)
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(names))
        content = contents.get(name, b"")
        start = draw(st.integers(0, len(content)))
        stop = start + draw(st.integers(0, 9))
        inserted = draw(st.one_of(st.binary(max_size=9), st.sampled_from(_TOKENS)))
        contents[draw(st.sampled_from([name, name, name, "more.npy"]))] = content[:start] + inserted + content[stop:]
    buffer = io.BytesIO()
    archive.write(buffer, contents)
    return buffer.getvalue()


_GOOD = [layout.encode(jax.tree.map(np.asarray, cases.mixture(family, 2, 2, np.float32)[0])) for family in FAMILIES]
_TOKENS = [
    b"0",
    b"1",
    b"[",
    b"]",
    b'"',
    b"null",
    b"NaN",
    b"1e9",
    b"result",
    b"tied",
    b"<f8",
    b"|O",
    b"\x80\x7f",
    b"\0" * 4,
]


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.one_of(edits(), st.binary(max_size=200)))
def test_what_is_loaded_is_what_would_be_saved(data, tmp_path):
    path = tmp_path / "fuzzed.npz"
    path.write_bytes(data)
    try:
        loaded = load(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        save(path, loaded)
        assert path.read_bytes() == data


# Kill -9

WRITER = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("archive", sys.argv[1])
archive = importlib.util.module_from_spec(spec)
spec.loader.exec_module(archive)
path, size, moment = sys.argv[2], int(sys.argv[3]), sys.argv[4]

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

def die_after(function):
    return lambda *arguments: die(function(*arguments))

class Dying(bytes):
    def __len__(self):
        # Asked for between what was written before and what would be after.
        return die() if sys._getframe(1).f_code.co_name == "write" else super().__len__()

letters, content = (b"a", b"b"), lambda letter: letter * size
if moment == "while writing":
    letters, content = (b"b",), lambda letter: Dying(letter * size)
elif moment != "anytime":
    letters = (b"b",)
    when, name = moment.split()
    function = getattr(os, name)
    setattr(os, name, die if when == "before" else die_after(function))
print("ready", flush=True)
while True:
    for letter in letters:
        archive.replace(path, {"header.json": letter, "means.npy": content(letter)})
"""


def killed(path, size, moment, seconds=None):
    """Run a writer until it is killed, and read what it leaves."""
    arguments = [sys.executable, "-S", "-c", WRITER, archive.__file__, str(path), str(size), moment]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        if seconds is not None:
            time.sleep(seconds)
            writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    if not path.exists():
        return None
    with open(path, "rb") as file:
        contents = archive.read(file, {"header.json": 1, "means.npy": size})
    letter = bytes(contents["header.json"])
    assert bytes(contents["means.npy"]) == letter * size
    return letter


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("while writing", b"a"),
        ("before fsync", b"a"),
        ("after fsync", b"a"),
        ("before replace", b"a"),
        ("after replace", b"b"),
        ("before close", b"b"),
    ],
)
def test_a_writer_killed_at_a_moment_leaves_the_old_file_or_the_new(moment, left, tmp_path):
    path = tmp_path / "killed.npz"
    written(path, {"header.json": b"a", "means.npy": b"a" * 1000})
    assert killed(path, 1000, moment) == left


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    draws = random.Random(0)
    left = [killed(tmp_path / "killed.npz", 1 << 22, "anytime", draws.uniform(0.0, 0.08)) for _ in range(8)]
    assert any(left)
