"""Pyright, strict, on the README's examples: each block by itself, as a user's editor would see it.

What is unknown is not reported: scikit-learn and optax have no stubs, jax.grad and jax.numpy.ones are partly untyped,
and the parameters of a lambda have no types. `pyright --verifytypes jaxgmm --ignoreexternal` tells of our own.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
UNKNOWN = {f"reportUnknown{what}Type": False for what in ("Variable", "Member", "Argument", "Lambda")}
UNKNOWN["reportMissingTypeStubs"] = False

with tempfile.TemporaryDirectory() as folder:
    for place, block in enumerate(BLOCKS):
        (pathlib.Path(folder) / f"block_{place}.py").write_text(block)
    config = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT)], **UNKNOWN}
    (pathlib.Path(folder) / "pyrightconfig.json").write_text(json.dumps(config))
    sys.exit(subprocess.run(["pyright", "--project", folder, "--pythonpath", sys.executable]).returncode)
