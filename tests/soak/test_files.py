"""A few of the hostile files that ``make soak`` reads by the thousand."""

import sys

import numpy as np
import pytest

from files import read_hostile_files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is looked up in /proc")


def test_hostile_files_are_refused_or_harmless():
    found = read_hostile_files(30, seed=3, shares={"model": 0.7, "hierarchy": 0.2, "blocks": 0.1})
    assert found["failures"] == []
    assert found["processes"] == 1
    counts = found["counts"]
    assert counts["model refused"] > 10
    assert counts["hierarchy refused"] > 2
    assert counts["blocks refused"] > 0


def test_the_watch_sees_what_must_not_be(tmp_path):
    """Else the files above prove nothing."""
    import subprocess

    code = (
        "import pathlib, sys\n"
        "from watched import Watch, forget_peak, memory_now, peak_memory\n"
        "watch = Watch()\n"
        "here = pathlib.Path(sys.argv[1])\n"
        "with watch.looking(here) as seen:\n"
        "    (here / 'mine').write_text('a')\n"
        "    assert not seen, seen\n"
        "    (here.parent / 'other').write_text('a')\n"
        "    eval('1 + 1')\n"
        "    (here / 'mine').rename(here.parent / 'away')\n"
        "assert [word.split()[0] for word in seen] == ['writes', 'compiles', 'exec', 'os.rename']\n"
        "forget_peak()\n"
        "before = memory_now()\n"
        '(b"1" * (50 * 2**20)).count(b"1")\n'
        "assert 45 < (peak_memory() - before) / 2**20 < 70\n"
    )
    (tmp_path / "target").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "target")],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_same_seed_makes_the_same_file(tmp_path):
    from hostile_models import Parts, write_hostile_model

    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = {"architecture": {"levels": 2}, "notes": ["a"]}
    raw = Parts({"a": entry}, header, b"1234").file()
    for seed in range(20):
        made = []
        for name in ("one", "other"):
            path = tmp_path / f"{seed} {name}"
            write_hostile_model(path, [raw], np.random.default_rng(seed))
            made.append(path.read_bytes() if path.is_file() and not path.is_symlink() else b"")
        assert made[0] == made[1]
