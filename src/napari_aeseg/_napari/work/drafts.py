"""Saves drafts of the work by hand by itself, and finds those of images that are opened again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_aeseg._napari.drafts import (
    SUFFIX,
    Draft,
    digest_of,
    draft_of,
    has_work_by_hand,
    write_draft,
)
from napari_aeseg._napari.manifest.settings import Settings, new_path, times_of
from napari_aeseg._napari.work.background import Background
from napari_aeseg._napari.work.delay import Delay
from napari_aeseg._napari.work.worker import Failed, Job, Outcome, log_unexpected

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_aeseg._napari.state import DockState

_MILLISECONDS = 2000  # from a change to its file
_MOST_FILES = 100


class DraftKeeper(Background):
    """Writes a file for each image that was worked on; the newest files are kept."""

    def __init__(self, state: DockState, settings: Callable[[], Settings]) -> None:
        super().__init__(state)
        self._settings = settings
        self._paths: dict[Image, Path] = {}  # of this dock
        self._known: set[Image] = set()  # images whose drafts were looked for
        self._has_failed = False
        self._delay = Delay(_MILLISECONDS, self._save)
        for name in ("results", "cut", "comparison", "classes", "similarity"):
            state.events[name].connect(self.request)
        state.on("open_images", draw=self._find)

    @property
    def _folder(self) -> Path:
        return self._settings().folder / "drafts"

    def request(self, *_: Any) -> None:
        """Have the work saved in a moment."""
        if not self._delay.is_waiting and self._state.results:
            self._delay.start()

    def close(self) -> None:
        """Save what has not been saved yet."""
        is_due = self._delay.is_waiting
        self._delay.cancel()
        super().close()
        if is_due:
            try:
                _write(self._drafts())
            except OSError as error:  # the dock closes all the same
                log_unexpected(error, "saving the work by hand")

    def _find(self) -> None:
        """Look for drafts of images that were opened."""
        state, images = self._state, self._state.open_images
        drafts = {image: path for image, path in state.drafts.items() if image in images}
        new = [i for i in images if i not in self._known and i not in state.results]
        self._known = set(images)
        if self._settings().autosave and new and self._folder.is_dir():
            for image in new:
                files = self._files(f"{digest_of(image)} *")
                if files:  # a slider that was moved since must not hide an hour of painting
                    by_hand = filter(has_work_by_hand, reversed(files))
                    drafts[image] = next(by_hand, files[-1])
        state.drafts = drafts

    def _files(self, pattern: str = "*") -> list[Path]:
        """Drafts of other docks, the newest last."""
        return list(times_of(set(self._folder.glob(pattern + SUFFIX)) - set(self._paths.values())))

    def _drafts(self) -> dict[Path, Draft]:
        """The drafts to write now."""
        drafts = {}
        for image in self._state.results if self._settings().autosave else ():
            draft = draft_of(self._state, image)
            if draft.has_work or image in self._paths:
                if image not in self._paths:
                    self._paths[image] = new_path(self._folder, digest_of(image), SUFFIX)
                drafts[self._paths[image]] = draft
        return drafts

    def _save(self) -> None:
        if self._runner.busy:
            self._delay.start()
        elif drafts := self._drafts():
            files = self._files()
            surplus = max(len(files) + len(self._paths) - _MOST_FILES, 0)
            others = [path for path in files if path not in self._state.drafts.values()]
            work = Job("saving the work by hand", lambda _: _write(drafts, others, surplus))
            self._runner.start(work)

    def _on_ended(self, outcome: Outcome) -> None:
        if isinstance(outcome, Failed) and not self._has_failed:
            self._has_failed = True  # a full disk is reported once
            self.failed.emit(outcome.error)


def _write(drafts: Mapping[Path, Draft], others: Sequence[Path] = (), surplus: int = 0) -> None:
    """Write drafts, and remove so many others: first those with nothing but moved controls."""
    for path, draft in drafts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_draft(draft, path)
    for path in sorted(others, key=has_work_by_hand)[:surplus]:
        path.unlink(missing_ok=True)
