"""All benchmarks, one after another, and every target at the end: `python -m experiments.benchmarks`."""

from __future__ import annotations

import subprocess
import sys

from experiments.benchmarks import report

NAMES = ("em_pass", "restarts_race", "memory", "first_fit", "derivatives", "groups", "blurred")


def main(quick: bool = False) -> None:
    """Run each in a process of its own, and print what was wanted beside what was found."""
    failed = []
    targets: list[report.Target] = []
    for name in NAMES:
        done = subprocess.run([sys.executable, "-m", f"experiments.benchmarks.{name}"] + ["--quick"] * quick)
        if done.returncode:
            failed.append(name)
        else:
            targets += report.read_targets(name, quick)
    report.heading("Every target")
    report.targets_table(targets)
    print(f"\n{sum(target.met for target in targets)} of {len(targets)} targets met")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main(**vars(report.arguments(__doc__).parse_args()))
