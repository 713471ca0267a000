"""Every code block of the README runs, and says what the README says it says."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0][:40])
def test_block_runs(block):
    env = {name: value for name, value in os.environ.items() if name != "JAX_ENABLE_X64"}
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", block],
        capture_output=True, text=True, env={**env, "MPLBACKEND": "agg"}, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"^print\(.*?\)  # (.*)$", block, flags=re.M)
    assert done.stdout.split("\n")[: len(promised)] == promised or not promised, done.stdout


def test_both_commands_are_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert "pip install -e '.[experiments]' && python -m experiments.em_vs_gradient" in text
    assert "pip install -e '.[dev]' && pytest" in text
    assert len(BLOCKS) >= 2


def test_the_readme_is_short_and_its_links_are_there():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links and not [link for link in links if not (ROOT / link.partition("#")[0]).is_file()]
    for page, _, place in (link.partition("#") for link in links):
        titles = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), flags=re.M) if place else []
        assert not place or place in [title.lower().replace(" ", "-") for title in titles], (page, place)
