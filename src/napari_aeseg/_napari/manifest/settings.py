"""The user's settings for this plugin in napari's Preferences (configurations of the manifest)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import platformdirs

from napari_aeseg.errors import InputError
from napari_aeseg.params import MODEL_SUFFIX

PLUGIN = "napari-aeseg"


@dataclass(frozen=True, slots=True)
class Settings:
    """Preferences, with the defaults of the manifest."""

    device: str = "auto"  # where torch works when a dock opens
    preset: str = "balanced"  # of the training parameters when a dock opens
    autosave: bool = True  # whether models in training and work by hand save themselves
    autosave_folder: str = ""  # "" is the plugin's folder in the user's data folder

    @property
    def folder(self) -> Path:
        """Folder for autosaved models, and for arrays that a copied script needs."""
        if self.autosave_folder.strip():
            return Path(self.autosave_folder).expanduser()
        return platformdirs.user_data_path(PLUGIN, appauthor=False)

    def autosave_path(self, name: str) -> Path | None:
        """Return a new file name for a model trained on an image; None without autosave."""
        if not self.autosave:
            return None
        return new_path(self.folder, name, MODEL_SUFFIX)


def new_path(folder: Path, name: str, suffix: str) -> Path:
    """Return a file name with the time in it that does not exist yet."""
    safe_name = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip("._")[:60]
    stem = f"{safe_name or 'image'} {datetime.now():%Y-%m-%d %H.%M.%S}"
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem} ({number}){suffix}"
    return path


def times_of(paths: Iterable[Path]) -> dict[Path, float]:
    """Return when each file was changed last, the oldest first; files that are gone are left out.

    Another window may remove old files of the same folder at any time.
    """
    times = {}
    for path in paths:
        with suppress(FileNotFoundError):
            times[path] = path.stat().st_mtime
    return dict(sorted(times.items(), key=lambda item: item[1]))


def prepare_folder(folder: Path) -> None:
    """Make the folder for models if it does not exist; raise `InputError` if it cannot be used."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"Nothing can be saved in {folder} ({error.strerror or error}). Choose another folder "
            "for models in napari's Preferences, or turn autosaving off there."
        ) from error


def read_settings() -> Settings:
    """Return the preferences as they are now; the defaults where napari is older than 0.9."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return Settings()
    try:
        ours: Any = get_plugin_settings(PLUGIN)
    except KeyError:  # this napari has no manifest of the plugin: it was imported by hand
        return Settings()
    return Settings(
        ours.training.device,
        ours.training.preset,
        ours.saving.autosave,
        ours.saving.autosave_folder,
    )
