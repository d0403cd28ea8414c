"""Nothing that the package does goes out to the network: no telemetry, no download.

Two samples are the exception: their names in the menu say that they are downloaded.

This file, run as a script, does all that the package can do where every way out is watched. Python
tells an audit hook of each connection and of each look-up of a name, whichever library asks for it.
On Linux the kernel, too, ends the process (SIGSYS) when anything in it, C code included, connects
to an internet address or sends to one.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

WAYS_OUT = ("connect", "getaddrinfo", "gethostbyname", "gethostbyaddr", "getnameinfo")
WAYS_OUT = tuple(f"socket.{name}" for name in (*WAYS_OUT, "sendto", "sendmsg"))
# Nobody answers there: the net of addresses that documents may show.
NOBODY = ("192.0.2.1", 443)
FILTERED = sys.platform == "linux" and platform.machine() == "x86_64"

refused: list[str] = []


def watch_python() -> None:
    """Refuse and remember whatever Python code asks for that leads out of this process."""

    def hook(event, arguments):
        if event in WAYS_OUT and not stays(*arguments):
            refused.append(f"{event} {arguments[1:] if event == 'socket.connect' else arguments}")
            raise PermissionError(f"{refused[-1]}: nothing may leave this process")

    sys.addaudithook(hook)


def stays(of, *rest) -> bool:
    """Whether a socket is a file, or one half of what Windows takes for a pair."""
    if getattr(of, "family", None) in (None, socket.AF_INET, socket.AF_INET6):
        return sys.platform == "win32" and bool(rest) and rest[-1][0] in ("127.0.0.1", "::1")
    return True


def watch_kernel() -> None:
    """Have Linux end this process when it connects, or sends, to an internet address.

    The filter sees how long the address is that a system call is given: 16 bytes (IPv4) or 28
    (IPv6). Those of files and of other parts of the system have other lengths.
    """
    load, skip, equal, end = 0x20, 0x05, 0x15, 0x06  # operations of the filter
    call, machine, third, sixth = 0, 4, 32, 56  # places of what it is told
    program = [
        (load, 0, 0, machine),
        (equal, 0, 8, 0xC000003E),  # x86-64
        (load, 0, 0, call),
        (equal, 1, 0, 42),  # connect(socket, address, length)
        (equal, 2, 5, 44),  # sendto(socket, bytes, number, flags, address, length)
        (load, 0, 0, third),
        (skip, 0, 0, 1),
        (load, 0, 0, sixth),
        (equal, 2, 0, 16),
        (equal, 1, 0, 28),
        (end, 0, 0, 0x7FFF0000),  # go on
        (end, 0, 0, 0x80000000),  # end the process
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    whole = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(38, 1, 0, 0, 0) or prctl(22, 2, ctypes.c_void_p(ctypes.addressof(whole)), 0, 0):
        raise OSError(ctypes.get_errno(), "the filter of system calls was not accepted")


def use_samples() -> None:
    """Open all sample images; they come with scikit-image."""
    from napari_aeseg.samples import SAMPLES

    for sample in SAMPLES.values():
        assert sample().ndim >= 2


def use_functions(folder: Path) -> None:
    """Train, save, load, segment as a whole and in blocks, cut, write."""
    import napari_aeseg as aeseg
    from napari_aeseg.samples import coins

    image = coins()[:96, :96]
    aeseg.train(image, quick(), device="cpu").save(folder / "coins.aeseg.safetensors")
    model = aeseg.load_model(folder / "coins.aeseg.safetensors")
    blocks = aeseg.BlockParams(block_size=48)
    for tree in (
        aeseg.build_hierarchy(image, model, device="cpu"),
        aeseg.build_hierarchy(image, "base", device="cpu", blocks=blocks),
    ):
        path = folder / f"{tree.model_fingerprint}.aeseg.zarr"
        tree.save(path)
        labels = aeseg.load_hierarchy(path).regions(n_regions=5)
        tree.classes(2)
        aeseg.write_labels(labels, path.with_suffix(".ome.zarr"))
    aeseg.build_hierarchy(image, model, device="cpu").objects()


def quick():
    """Params of a training that takes a blink."""
    from napari_aeseg import TrainingParams

    return TrainingParams(steps=3, width=4, levels=2, batch_size=2, crop_size=16)


def use_commands(folder: Path) -> None:
    """Run every command; the demo with parts of its images, since only their way here matters."""
    import imageio.v3 as imageio

    from napari_aeseg import samples
    from napari_aeseg.cli import demo, main

    picture, model = str(folder / "picture.png"), str(folder / "cli.aeseg.safetensors")
    imageio.imwrite(picture, samples.coins()[:64, :64])
    demo._STEPS = 2
    samples.SAMPLES = {n: lambda s=s: s()[:64, :64] for n, s in samples.SAMPLES.items()}
    for command in (
        ["train", picture, f"--output={model}", "--steps=3", "--device=cpu"],
        ["segment", picture, f"--model={model}", f"--output={folder / 'labels'}", "--device=cpu"],
        ["info", model],
        ["demo", f"--output={folder / 'demo'}", "--no-window", "--device=cpu"],
    ):
        assert main(command) == 0, command


def use_dock(folder: Path) -> None:
    """Train, segment, tune and keep in the dock; Qt draws nothing."""
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QApplication

    from napari_aeseg._napari.widget import AESegWidget
    from napari_aeseg.samples import coins

    application = QApplication([])
    viewer = ViewerModel()
    viewer.add_image(coins()[:96, :96], name="coins")
    widget = AESegWidget(viewer)
    widget.training_params, widget.device = quick(), "cpu"
    for action in (widget.train, widget.segment):
        action()
        widget.wait(60)
    for mode in ("regions", "classes", "objects"):
        widget.mode = mode
        widget.wait(60)
        widget.keep()
        widget.wait(60)
    widget.save_model(folder / "dock.aeseg.safetensors")
    widget._controller.close()
    widget.native.deleteLater()
    application.processEvents()


def main(folder: str, only: str = "") -> None:
    """Do everything, or make one connection that has to be found; print what was refused."""
    if only != "kernel":
        watch_python()
    if FILTERED and only != "python":
        watch_kernel()
    if only:
        with contextlib.suppress(PermissionError):  # remembered
            socket.create_connection(NOBODY, timeout=5)
    else:
        use_samples()
        use_functions(Path(folder))
        use_commands(Path(folder))
        use_dock(Path(folder))
    print(json.dumps(refused))


def run_watched(folder: Path, *only: str) -> subprocess.CompletedProcess[str]:
    """Run this file in a process of its own that finds nothing the user has downloaded before."""
    home = {name: str(folder) for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    return subprocess.run(
        [sys.executable, __file__, str(folder), *only],
        env={**os.environ, **home, "QT_QPA_PLATFORM": "offscreen"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_goes_out_to_the_network(tmp_path):
    done = run_watched(tmp_path)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_connection_of_python_is_found(tmp_path):
    done = run_watched(tmp_path, "python")

    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert "192.0.2.1" in found


@pytest.mark.skipif(not FILTERED, reason="the filter of system calls is for Linux on x86-64")
def test_a_connection_that_python_does_not_tell_of_is_found(tmp_path):
    assert run_watched(tmp_path, "kernel").returncode == -signal.SIGSYS


if __name__ == "__main__":
    main(*sys.argv[1:])
