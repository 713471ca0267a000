"""How `load` meets files that are not what it expects: `python -m experiments.fuzz_load SECONDS [SEED]`.

Good files of every family, and of fits, are cut, flipped, spliced, rewritten with checksums to match, and zipped by
another hand. Each must be refused by one `ValueError` that names the path, or load as a value whose own file is the
same to the last byte; and be done with in little memory. Ctrl-C ends early, with the counts so far.
"""

from __future__ import annotations

import collections
import io
import json
import pathlib
import random
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable

import jax
import numpy as np

import jaxgmm
from jaxgmm.persistence import archive, load, save

MOST_MEMORY = 8 << 20
"""Bytes that a load of these small files may take at its peak."""


def main(seconds: float, seed: int = 0) -> collections.Counter[str]:
    draws, counts, peak = random.Random(seed), collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "fuzzed.npz"
        good, until = good_files(path), time.monotonic() + seconds
        print(f"{len(good)} good files of {min(map(len, good))} to {max(map(len, good))} bytes, seed {seed}")
        tracemalloc.start()
        try:
            while time.monotonic() < until:
                edit = draws.choice(EDITS)
                data = edit(draws.choice(good), draws)
                path.write_bytes(data)
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                outcome = tried(path, data)
                memory = tracemalloc.get_traced_memory()[1] - before
                peak = max(peak, memory)
                if memory > MOST_MEMORY:
                    outcome = "WRONG: too much memory"
                if outcome.startswith("WRONG"):
                    print(f"{outcome}: {edit.__name__} gave {data!r}")
                counts["tried"] += 1
                counts[outcome] += 1
        except KeyboardInterrupt:
            pass
        tracemalloc.stop()
    wrong = sum(number for outcome, number in counts.items() if outcome.startswith("WRONG"))
    print(
        f"tried {counts['tried']}, refused {counts['refused']}, loaded and equal {counts['equal']}, wrong {wrong}; "
        f"at most {peak / 1e6:.2f} MB for a file"
    )
    return counts


def tried(path: pathlib.Path, data: bytes) -> str:
    try:
        loaded = load(path)
    except ValueError as error:
        return "refused" if str(path) in str(error) else "WRONG: an error without the path"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"WRONG: {type(error).__name__}"
    save(path, loaded)
    return "equal" if path.read_bytes() == data else "WRONG: loaded as something else"


def good_files(path: pathlib.Path) -> list[bytes]:
    """A mixture of every family in both dtypes, a stack, a fit and stacked climbs."""
    values, x = [], np.random.default_rng(0).normal(size=(40, 2))
    for dtype in (np.float32, np.float64):
        covariances = np.asarray([[[1.0, 0.5], [0.5, 1.0]], [[2.0, 0.0], [0.0, 0.5]]], dtype)
        wide = jaxgmm.make_mixture(np.asarray([0.3, 0.7], dtype), np.eye(2, dtype=dtype), covariances)
        values += [jaxgmm.project(wide, family) for family in jaxgmm.FAMILIES]
    values.append(jax.tree.map(lambda leaf: np.stack([leaf, leaf]), values[0]))
    values.append(jaxgmm.fit(jax.random.key(0), x, 2, n_init=3, max_iter=5))
    start = values[4]
    values.append(jax.tree.map(lambda leaf: np.stack([leaf] * 2), jaxgmm.run(jaxgmm.EM(), start, x, max_iter=3)))
    files = []
    for value in values:
        save(path, value)
        files.append(path.read_bytes())
    return files


def truncated(data: bytes, draws: random.Random) -> bytes:
    return data[: draws.randrange(len(data))]


def flipped(data: bytes, draws: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draws.randint(0, 4)):
        changed[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
    return bytes(changed)


def spliced(data: bytes, draws: random.Random) -> bytes:
    start, stop, to = sorted(draws.randrange(len(data)) for _ in range(2)) + [draws.randrange(len(data))]
    return data[:to] + data[start:stop] + data[to + draws.randint(0, stop - start) :]


def sized(data: bytes, draws: random.Random) -> bytes:
    """Four bytes anywhere that claim a size."""
    place, claim = draws.randrange(len(data) - 4), draws.choice([0, 1, 1 << 20, 1 << 31, (1 << 32) - 1])
    return data[:place] + claim.to_bytes(4, "little") + data[place + 4 :]


def appended(data: bytes, draws: random.Random) -> bytes:
    return data + draws.randbytes(draws.randint(0, 40))


def rewritten(data: bytes, draws: random.Random) -> bytes:
    """Members edited, with checksums and sizes to match."""
    contents = members(data)
    for _ in range(draws.randint(0, 3)):
        name = draws.choice(list(contents))
        content, to = contents[name], draws.randint(0, len(contents[name]))
        inserted = draws.choice([draws.randbytes(draws.randint(0, 9)), *TOKENS])
        contents[name] = content[:to] + inserted + content[to + draws.choice([0, len(inserted), 8]) :]
    return archived(contents)


def renumbered(data: bytes, draws: random.Random) -> bytes:
    """Other numbers in the arrays, NaN and infinities among them."""
    contents = members(data)
    name = draws.choice([name for name in contents if name != "header.json"])
    content = contents[name]
    size = draws.choice([4, 8])
    number = draws.choice([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-45, 1e300, draws.gauss(0, 1)])
    with np.errstate(all="ignore"):
        raw = np.asarray(number, f"<f{size}").tobytes()
    place = len(content) - size * draws.randint(1, 4)
    contents[name] = content[:place] + raw + content[place + size :]
    return archived(contents)


def redescribed(data: bytes, draws: random.Random) -> bytes:
    """Another header, in good JSON."""
    contents = members(data)
    header = json.loads(contents["header.json"])
    for _ in range(draws.randint(0, 3)):
        value = draws.choice(
            [None, True, 0, 1, 2, -1, 1 << 31, 1 << 64, 1.5, "", "full", "tied", "result", [], [[]], {}]
        )
        if draws.random() < 0.3:
            header[draws.choice([*header, "more"])] = value
        elif isinstance(header.get("arrays"), dict) and header["arrays"]:
            described = header["arrays"][draws.choice(list(header["arrays"]))]
            if isinstance(described, list) and len(described) == 2 and isinstance(described[1], list):
                if draws.random() < 0.5:
                    described[0] = draws.choice(["<f4", "<f8", "<i4", "<i8", "|O", ">f4", "<c8", value])
                else:
                    described[1].insert(draws.randint(0, len(described[1])), draws.choice([value, 1, 2]))
    contents["header.json"] = json.dumps(header).encode()
    return archived(contents)


def rearranged(data: bytes, draws: random.Random) -> bytes:
    """Members dropped, swapped or added."""
    items = list(members(data).items())
    for _ in range(draws.randint(0, 2)):
        change = draws.randrange(3)
        if change == 0 and len(items) > 1:
            items.pop(draws.randrange(len(items)))
        elif change == 1:
            draws.shuffle(items)
        else:
            items.insert(
                draws.randint(0, len(items)), (draws.choice(["more.npy", "../means.npy", "/means.npy"]), b"more")
            )
    return archived(dict(items))


def zipped(data: bytes, draws: random.Random) -> bytes:
    """The same members by Python's own zip, compressed or not, with its dates and comments."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=draws.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as opened:
        for name, content in members(data).items():
            opened.writestr(name, content)
        opened.comment = draws.choice([b"", b"a comment"])
    return buffer.getvalue()


def bomb(data: bytes, draws: random.Random) -> bytes:
    """A header of megabytes of zeros in kilobytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
        opened.writestr("header.json", bytes(draws.choice([1 << 16, 1 << 22])))
    return buffer.getvalue()


def noise(data: bytes, draws: random.Random) -> bytes:
    return draws.choice([b"", b"PK\3\4", b"\x93NUMPY"]) + draws.randbytes(draws.randint(0, 300))


EDITS: list[Callable[[bytes, random.Random], bytes]] = [
    truncated,
    flipped,
    spliced,
    sized,
    appended,
    rewritten,
    rewritten,
    renumbered,
    renumbered,
    redescribed,
    redescribed,
    rearranged,
    zipped,
    bomb,
    noise,
]
TOKENS = [
    b"0",
    b"1",
    b"[",
    b"]",
    b"{",
    b'"',
    b"null",
    b"NaN",
    b"1e9",
    b"result",
    b"tied",
    b"<f8",
    b"|O",
    b"(2, 2)",
    b"\0" * 4,
]


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def archived(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    archive.write(buffer, contents)
    return buffer.getvalue()


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    counts = main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    sys.exit(any(outcome.startswith("WRONG") for outcome in counts))
