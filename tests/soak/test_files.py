"""A few of the damaged files that ``make soak`` reads by the thousand."""

import subprocess
import sys

import numpy as np
import pytest

from files import damage, read_damaged_files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is looked up in /proc")


def test_damaged_files_are_refused_or_usable():
    # Folders of blocks take ten times as long: tests/large/test_block_store.py damages these.
    shares = {"model": 0.4, "image": 0.45, "hierarchy": 0.15}
    report = read_damaged_files(32, seed=3, shares=shares)
    assert report["failures"] == []
    assert report["processes"] == 1
    counts = report["counts"]
    assert counts["model refused"] > 8
    assert counts["image refused"] > 6
    assert counts["image read"] > 1
    assert counts["hierarchy refused"] > 0


def test_writing_elsewhere_a_program_and_memory_are_noticed(tmp_path):
    """Else the files above prove nothing."""
    code = (
        "import os, pathlib, sys\n"
        "from files import Watch, peak_memory\n"
        "watch = Watch()\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with peak_memory() as peak, watch.outside(folder) as seen:\n"
        "    (folder / 'mine').write_text('a')\n"
        "    assert not seen, seen\n"
        "    (folder.parent / 'other').write_text('a')\n"
        "    os.system('true')\n"
        "    (b'1' * (50 * 2**20)).count(b'1')\n"
        "assert [word.split()[0] for word in seen] == ['open', 'os.system'], seen\n"
        "assert 45 < peak[0] / 2**20 < 70\n"
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


def test_the_same_seed_damages_in_the_same_way(tmp_path):
    (tmp_path / "outside").mkdir()
    for seed in range(40):
        contents = []
        for name in ("one", "other"):
            folder = tmp_path / f"{seed} {name}" / "folder"
            folder.mkdir(parents=True)
            (folder / "a.bin").write_bytes(bytes(range(200)))
            (folder / "zarr.json").write_text('{"shape": [1, 2], "notes": {"a": "text"}}')
            how = damage(folder, np.random.default_rng(seed))
            files = sorted(p for p in folder.iterdir() if p.is_file() and not p.is_symlink())
            contents.append((how, [(p.name, p.stat().st_size) for p in files]))
            if how == "changed":
                contents[-1] += ([p.read_bytes() for p in files],)
        assert contents[0] == contents[1]
