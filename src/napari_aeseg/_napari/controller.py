"""What buttons and scripts do: each action reads the dock's state and begins a task or changes it.

User choices, actions and jobs change the state; the state redraws views and layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_warning
from psygnal import Signal
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication, QMainWindow

from napari_aeseg._napari.class_names import alike_lines
from napari_aeseg._napari.corrections import ManualCorrections
from napari_aeseg._napari.drafts import Draft, read_draft, restore_settings
from napari_aeseg._napari.export.script import script_of
from napari_aeseg._napari.export.tables import (
    LABEL,
    color_by,
    columns_of,
    export_table,
    measured_layer,
)
from napari_aeseg._napari.layers.alignment import LayerAlignment
from napari_aeseg._napari.layers.connections import Connections
from napari_aeseg._napari.layers.diagnostics import UNCERTAINTY, DiagnosticLayers
from napari_aeseg._napari.layers.edit_tools import EditTools
from napari_aeseg._napari.layers.image_input import (
    METADATA_KEY,
    ImageInput,
    camera_of,
    copied_segments,
    image_input,
    pixels_changed_text,
    shape_changed_text,
    unwrapped,
)
from napari_aeseg._napari.layers.kept_layers import KeptLayers
from napari_aeseg._napari.layers.placement import layer_place
from napari_aeseg._napari.layers.preview import PreviewLayers
from napari_aeseg._napari.layers.training_preview import TrainingLayer
from napari_aeseg._napari.layers.visibility import ImageVisibility
from napari_aeseg._napari.manifest.settings import read_settings, times_of
from napari_aeseg._napari.saved_state import restored_state, save_state
from napari_aeseg._napari.state import EDITS_DISCARDED, OWN_CLASSES, DockState, Origin, Result
from napari_aeseg._napari.views.dock import Dock
from napari_aeseg._napari.work import jobs
from napari_aeseg._napari.work.alternatives import AlternativesFinder
from napari_aeseg._napari.work.answers import (
    Answerer,
    BorderRefiner,
    StrokeLearner,
    UncertaintyFinder,
)
from napari_aeseg._napari.work.comparison import Comparer
from napari_aeseg._napari.work.devices import LOADING, DeviceFinder
from napari_aeseg._napari.work.drafts import DraftKeeper
from napari_aeseg._napari.work.errors import Reporter
from napari_aeseg._napari.work.hierarchies import HierarchyIO
from napari_aeseg._napari.work.job_queue import JobQueue, Task
from napari_aeseg._napari.work.worker import wait_until
from napari_aeseg._napari.work_requests import UncertaintyRequest
from napari_aeseg.errors import InputError
from napari_aeseg.params import BASE_MODEL, MODEL_SUFFIX, TrainingParams

if TYPE_CHECKING:
    import numpy as np
    from napari.viewer import Viewer

    from napari_aeseg._napari.work_requests import ObjectRequest
    from napari_aeseg.autoencoder.model import Model
    from napari_aeseg.batch import BatchReport, Existing
    from napari_aeseg.progress import Progress
    from napari_aeseg.regions.cuts.cut import Cut
    from napari_aeseg.regions.hierarchy import Hierarchy


_TABLE_HEIGHT = 220  # pixels
_MOST_AUTOSAVED = 5  # files in the list of models
_UNCERTAIN = "The class is least certain in the middle of the view: paint there."


class Controller:
    """Joins the state, the views, the layers and the jobs; `AESegWidget` is its public face."""

    trained = Signal(object)  # Model
    segmented = Signal(object)  # Hierarchy, whose preview is up to date by then
    diagnostic_shown = Signal(list)  # of layers
    batch_done = Signal(object)  # BatchReport

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.is_closed = False
        settings = read_settings()
        self.state = state = restored_state(viewer) or DockState(
            device=settings.device, training=TrainingParams.preset(settings.preset)
        )
        self.reporter = Reporter(state)
        self.queue = JobQueue(state, self.reporter)
        self.finder = Answerer(state, "objects")
        self.comparer = Comparer(state)
        self.alternatives = AlternativesFinder(state)
        self.learner, self.refiner = StrokeLearner(state), BorderRefiner(state)
        self.uncertainty = UncertaintyFinder(state)
        self.previews = PreviewLayers(
            viewer, state, self._find_objects, self.learner.learn, self.refiner.ask
        )
        self.tools = EditTools(viewer, state)
        self.kept = KeptLayers(viewer, state)
        self.drafts = DraftKeeper(state, lambda: read_settings())
        self.corrections = ManualCorrections(viewer, state, self._on_strokes)
        self.diagnostics = DiagnosticLayers(viewer, state)
        self.visibility = ImageVisibility(viewer, state, self._layers_on)
        self.alignment = LayerAlignment(state, self._layers_on)
        self.training_layer = TrainingLayer(viewer, state)
        self.hierarchy_io = HierarchyIO(viewer, state, self.corrections.restore)
        self.devices = DeviceFinder(state)
        self.dock = Dock(state)
        self._restoring: dict[Image, Draft] = {}  # to bring back when they are segmented
        self._connections = Connections()  # to the viewer
        self._image_connections = Connections()
        self._connect_signals()
        self._connect_buttons()
        self.follow_layers()
        for image in list(state.results):  # they may have been given other data while closed
            self._follow_data(image)

    def _connect_signals(self) -> None:
        finders = (self.finder, self.learner, self.refiner, self.comparer, self.alternatives)
        for part in (*finders, self.uncertainty, self.previews, self.kept, self.drafts):
            part.failed.connect(self.reporter.report)
        self.state.events.learned.connect(self._on_learned)
        self.uncertainty.found.connect(self._on_uncertainty)
        self.queue.progressed.connect(self._on_progress)
        self.previews.painted.connect(self._on_painted)
        self.kept.measured.connect(self._update_columns)
        for name in ("busy", "shown"):
            self.state.events[name].connect(self._update_columns)
        self.state.events.open_images.connect(self._connect_images)
        self.state.events.cut.connect(self._on_cut)
        for name in ("cut", "comparison", "model", "similarity"):
            self.state.events[name].connect(self._on_choice)
        self._connections.connect(self._on_active_layer, self.viewer.layers.selection.events.active)
        self.state.events.previews.connect(self._on_active_layer)  # a new one is active before
        self.tools.used.connect(partial(self.reporter.run_showing_errors, self._use_tool))

    def _connect_buttons(self) -> None:
        dock, slot, corrections = self.dock, self.reporter.slot, self.corrections
        state = self.state
        model, segments = dock.model, dock.segments
        for button, action, *arguments in (
            (model.train_button, self.train),
            (model.resume_button, self.train, True),
            (model.load_button, self._ask_and, self.load, dock.ask_model_to_load),
            (model.save_button, self._ask_and, self.save, dock.ask_where_to_save),
            (segments.segment_button, self.segment, True),
            (segments.keep_button, self.keep),
            (segments.open_button, self._ask_and, self.open_hierarchy, dock.ask_hierarchy_to_open),
            (segments.save_button, self._ask_and_save_hierarchy),
            (segments.apply_button, self.apply_to_all),
            (segments.tools.undo_button, self.correct, corrections.undo),
            (segments.tools.redo_button, self.correct, corrections.redo),
            (segments.tools.forget_button, corrections.forget_examples),
            (segments.markers.button, self.paint),
            (segments.markers.next_button, self.show_uncertain_place),
            (segments.markers.uncertainty_button, self.toggle_diagnostic, UNCERTAINTY),
            (segments.markers.keep_button, corrections.store_learned),
            (dock.folder.button, self._segment_chosen_folder),
            (dock.table_button, self.show_table),
            (dock.export_button, self._ask_and_export),
            (dock.script_button, self.copy_script),
            (dock.status.stop_button, self.stop),
            (dock.status.bring_button, self.bring_back),
            (dock.previous_button, self.visibility.show_next, -1),
            (dock.next_button, self.visibility.show_next),
            (dock.status.dismiss_button, setattr, state, "drafts", {}),
        ):
            button.clicked.connect(slot(action, *arguments))
        model.device_box.opened.connect(self.devices.find)
        model.model_box.opened.connect(slot(self._find_autosaved))
        for signal, handler in (
            (model.model_chosen, self.choose_model),
            (dock.images.looked_at, self.visibility.show_only),
            (segments.classes.renamed, corrections.rename),
            (segments.classes.recolored, corrections.recolor),
            (segments.classes.fixed, self.fix_classes),
            (segments.objects.detect_by_classes, self.detect_by_classes),
            (dock.diagnostics.chosen, self.toggle_diagnostic),
            (dock.color_box.textActivated, self.color_by),
        ):
            signal.connect(partial(self.reporter.run_showing_errors, handler))

    # Train, load, save

    def train(self, resume: bool = False) -> None:
        """Begin to train on the chosen images, or to resume the training of the current model."""
        state = self.state
        self.queue.check_free()
        self.dock.model.form.check()
        if resume and (state.model is None or not state.model.unfinished):
            raise InputError("There is no training to resume: press Train.")
        inputs = self._read_images()
        path = read_settings().autosave_path(inputs[0].name)
        params, init = (None, state.model) if resume else (state.training, self._initial_model())
        names, announce = _listed(inputs), self.trained.emit
        work = jobs.training(inputs, params, state.device, init, resume, state.watch, path)
        n_earlier_notes = len(state.model.record.notes) if resume and state.model is not None else 0
        finish = partial(
            self._take_trained, self._origin(inputs, init, resume, path), n_earlier_notes
        )
        self.queue.run([Task(names, f"Training on {names}", work, finish, announce)])
        state.autosave = path
        self.training_layer.begin(state.images[0], inputs[0])

    def _initial_model(self) -> Model | str | None:
        """What a new training starts from."""
        if self.state.start_from == "current":
            return self.state.model or BASE_MODEL
        return BASE_MODEL if self.state.start_from == "base" else None

    def _origin(
        self,
        inputs: tuple[ImageInput, ...],
        init: Model | str | None,
        resume: bool,
        path: Path | None,
    ) -> Origin:
        """Where the model will come from that a training makes."""
        current, text = self.state.origin, f"Trained on {_listed(inputs)}"
        before = None if init is None else Origin(path=BASE_MODEL)
        if init is self.state.model and init is not None:
            before = current
        if resume:  # a script repeats it as one training, from the original start
            before = current.init
            # A loaded model has no record of the images it began with, so a script cannot repeat
            # it.
            inputs = inputs if current.inputs else ()
        return Origin(text, path, inputs, self.state.device, init=before)

    def _take_trained(
        self, origin: Origin, n_earlier_notes: int, model: Model, stopped: bool
    ) -> list[str]:
        params = None if model.unfinished else TrainingParams(**model.record.params)
        self.state.assign_model(model, replace(origin, params=params))
        steps, notes = model.record.steps, list(model.record.notes)[n_earlier_notes:]
        if not model.unfinished:
            return [*notes, f"Trained, {steps} steps. Press Segment to use the new model."]
        # The last note says why it ended: it was stopped, or memory ran out.
        text = "The model so far is kept: press Resume to go on, or Segment to use it."
        return [*notes[:-1], " ".join((*notes[-1:], text))]

    def _read_images(self) -> tuple[ImageInput, ...]:
        """Read the chosen images; raise `InputError` when one cannot be used or none is chosen."""
        if not self.state.images:
            raise InputError("No image is chosen: open an image and check it in the list.")
        state = self.state
        return tuple(image_input(image, state.axes, state.resolution) for image in state.images)

    def choose_model(self, choice: Model | str | Path) -> None:
        """Use a model of this session again, or load a file or the base model."""
        state = self.state
        base = (model for model in state.models if model.any_channels)
        model = next(base, choice) if choice == BASE_MODEL else choice
        try:
            if isinstance(model, str | Path):
                self.load(model)
            else:
                self.queue.check_free()
                state.assign_model(model, state.models[model])
        finally:
            state.models = dict(state.models)  # the list shows what is in use

    def _find_autosaved(self) -> None:
        files = read_settings().folder.glob(f"*{MODEL_SUFFIX}")
        self.state.autosaved = tuple(reversed(times_of(files)))[:_MOST_AUTOSAVED]

    def load(self, path: str | PathLike[str]) -> None:
        """Begin to load a model file, or "base"."""
        self.queue.run([self._loading(path)])

    def _loading(self, path: str | PathLike[str], before_segmenting: bool = False) -> Task:
        name = "the base model" if path == BASE_MODEL else Path(path).name
        origin = Origin(f"Loaded {name}", Path(path).absolute())
        if path == BASE_MODEL:
            origin = Origin("Base model", BASE_MODEL)

        def finish(model: Model, stopped: bool) -> list[str]:
            self.state.assign_model(model, origin)
            if stopped and before_segmenting:
                return ["Stopped before the first image was segmented."]
            return []

        return Task(name, f"Loading {name}", jobs.loading(path), finish)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file."""
        state, path = self.state, Path(path)
        if state.model is None:
            raise InputError("There is no model to save: train or load one first.")
        state.model.save(path)
        path = path.absolute()
        origin = replace(state.origin, text=f"Saved as {path.name}", path=path)
        if origin.starts_from(path):
            # Saving overwrites the weights it started from, so a script can no longer repeat the
            # training.
            origin = replace(origin, params=None)
        state.models = {**state.models, state.model: origin}
        state.message = f"Saved as {path.name}."

    # Segment

    def segment(self, choose_mode: bool = False) -> None:
        """Begin to segment the chosen images; show objects afterwards where these stand out."""
        self.queue.check_free()
        self.dock.segments.form.check()
        inputs = self._read_images()
        self.queue.run(self._segmenting(list(zip(self.state.images, inputs, strict=True))))
        self.state.mode_is_open = choose_mode and not self.state.results

    def _segmenting(self, images: list[tuple[Image, ImageInput]]) -> Iterator[Task]:
        """Yield a task for each image, all with the model of the beginning or the base model."""
        state = self.state
        settings = state.segmentation, state.comparison, state.device
        if state.model is None:
            yield self._loading(BASE_MODEL, before_segmenting=True)
        model = state.model
        assert model is not None, "the first task is to load one"  # noqa: S101
        begun, total = time.monotonic(), len(images)
        segments = state.starting_segments
        for number, (image, read) in enumerate(images, 1):
            labels = copied_segments(segments, read.axes)
            result = partial(Result, model=model, input=read, segments=segments, labels=labels)
            subject = f"{read.name} ({number} of {total})" if total > 1 else read.name
            since = begun if number == total else None
            yield Task(
                subject,
                f"Segmenting {subject}",
                jobs.segmenting(read, model, *settings, labels),
                partial(self._take_hierarchy, image, result, total, since),
                announce=self.segmented.emit,
                independent=True,
            )

    def _take_hierarchy(
        self,
        image: Image,
        result_of: Callable[[Hierarchy], Result],
        total: int,
        since: float | None,  # when the first image was begun, where this is the last
        hierarchy: Hierarchy,
        stopped: bool,
    ) -> list[str]:
        lines, result = [], result_of(hierarchy)
        if image in self.viewer.layers:
            if not result.input.has_shape_of(image):
                raise InputError(shape_changed_text(image))
            lines = list(hierarchy.notes)
            before, cut = self.state.results.get(image), self.state.cut
            other = before is not None and before.model not in (None, result.model)
            if before is not None and other and total == 1 and cut.mode == "classes":
                lines += alike_lines(before.hierarchy, hierarchy, cut.classes_in(hierarchy))
            if not self.state.add_result(image, result):
                lines.append(EDITS_DISCARDED)
            classes = self.state.classes
            if classes.prototypes is not None and classes.fixed_for(result) is None:
                lines.append(OWN_CLASSES)
            if not result.input.has_data_of(image):
                lines.append(pixels_changed_text(image))
            if image in self._restoring:
                self.corrections.restore(image, self._restoring.pop(image))
            self._show_result(image)
        if total > 1:
            lines = [f"{image.name}: {line}" for line in lines]
        if since is not None and image in self.state.results:
            summary = self.state.summary(image) if total == 1 else f"{total} images segmented"
            lines.insert(0, f"{summary}, {time.monotonic() - since:.1f} s.")
        if stopped:
            lines.append(f"Stopped after {image.name}; its segmentation is kept.")
        return lines

    def _show_result(self, image: Image) -> None:
        # Whoever unchecked the image meanwhile still wants to see the result.
        images = self.state.images if image in self.state.images else (image,)
        self.reporter.run_showing_errors(self.previews.update, images, self.state.cut)
        shown = self.state.first_image
        if shown in self.state.results and self.visibility.is_covered(shown):
            self.visibility.show_only(shown)
        self.previews.show([image for image in images if image.visible])

    def apply_to_all(self) -> None:
        """Segment every open image like the current one, whose classes the others have."""
        self.queue.check_free()
        state = self.state
        # An image that was opened since is checked instead of the one that was tuned.
        earlier = [image for image in state.results if image in state.open_images]
        state.example = state.first_image or next(reversed(earlier), None) or self.current_image()
        state.images = state.open_images
        self.segment()

    def bring_back(self) -> None:
        """Begin to segment the images of earlier work as they were, and bring that back."""
        state = self.state
        self.queue.check_free()
        times = times_of(state.drafts.values())
        files = [item for item in state.drafts.items() if item[1] in times]
        files.sort(key=lambda item: times[item[1]])
        drafts = {image: read_draft(path) for image, path in files}
        if not drafts:
            raise InputError("There is no earlier work on the open images.")
        newest = list(drafts.values())[-1]
        # Work with another model stays on offer: the model may not fit the channels of its image.
        later = {
            image: path for image, path in files if drafts[image].model_path != newest.model_path
        }
        drafts = {image: draft for image, draft in drafts.items() if image not in later}
        restore_settings(state, newest)
        state.images = tuple(image for image in state.open_images if image in drafts)
        inputs = self._read_images()
        self.queue.run(self._bringing_back(newest, list(zip(state.images, inputs, strict=True))))
        self._restoring, state.drafts = drafts, later

    def _bringing_back(
        self, draft: Draft, images: list[tuple[Image, ImageInput]]
    ) -> Iterator[Task]:
        path, current = draft.model_path, str(self.state.origin.path or "")
        if path not in (current, "") and (path == BASE_MODEL or Path(path).is_file()):
            yield self._loading(path, before_segmenting=True)
            restore_settings(self.state, draft)  # a model brings its classes along
        elif path != current:
            show_warning(f"The model {Path(path).name} is gone: another one is used.")
        yield from self._segmenting(images)

    def segment_folder(
        self, folder: str | PathLike[str], output: str | PathLike[str] | None, existing: Existing
    ) -> None:
        """Begin to segment all images of a folder."""
        from napari_aeseg.batch import image_files

        self.queue.check_free()
        self.dock.segments.form.check()
        files = image_files(folder)
        output = Path(folder) / "segments" if output is None else Path(output)
        prototypes = self.corrections.shown_prototypes(self.state.example_of(self.state.images))
        state, cut = self.state, self.state.cut
        work = jobs.segmenting_files(
            state.model,
            files=files,
            output=output,
            cut=replace(cut, mode="classes") if cut.learns_classes else cut,
            params=state.segmentation,
            comparison=state.comparison,
            axes=state.axes,
            device=state.device,
            axes_must_fit=False,  # they were typed for the open images
            existing=existing,
            prototypes=prototypes,
        )
        subject = f"{len(files)} files"
        title, finish = f"Segmenting {subject}", self._take_batch_report
        self.queue.run([Task(subject, title, work, finish, announce=self.batch_done.emit)])

    def _segment_chosen_folder(self) -> None:
        view = self.dock.folder
        if view.folder.folder is None:
            raise InputError("No folder is chosen: type its path, or press … beside the line.")
        existing = view.existing.currentData()
        self.segment_folder(view.folder.folder, view.output.folder, existing)

    def _take_batch_report(self, report: BatchReport, stopped: bool) -> list[str]:
        self.state.report = str(report)
        return [report.summary]

    def stop(self) -> None:
        """Ask the running task to stop."""
        if self.state.busy:
            self.dock.status.show_stopping()
            self.queue.stop()

    # Tune and correct

    def set_cut(self, **changes: Any) -> None:
        """Show another cut at once; raise `InputError` and change nothing when it is refused."""
        before = self.state.cut
        self.state.change_cut(**changes)
        try:
            self.previews.update(self.state.images, self.state.cut)
        except Exception:
            self.state.cut = before
            raise

    def current_image(self, image: Image | None = None) -> Image:
        """Return the image given, else the segmented one in sight, whose numbers are shown."""
        image = self.state.first_image if image is None else image
        if image is None:
            raise InputError("No chosen image is segmented yet: press Segment first.")
        return unwrapped(image)

    def correct(
        self, action: Callable[..., Any], image: Image | None = None, *arguments: Any
    ) -> Any:
        """Correct the regions of an image by hand, and show the result at once."""
        done = action(self.current_image(image), *arguments)
        self.previews.update_if_due()
        return done

    def _use_tool(self, name: str, image: Image, places: tuple[tuple[int, ...], ...]) -> None:
        """Do what a tool does where its user has clicked, or what a key stands for."""
        corrections, objects = self.corrections, self.corrections.objects
        actions: dict[str, Callable[..., object]] = {
            "merge": corrections.merge,
            "split": corrections.split,
            "undo": corrections.undo,
            "redo": corrections.redo,
            "lock": corrections.lock,
            "similar": corrections.find_similar,
            "add": objects.add,
            "delete": objects.delete,
            "larger": objects.larger,
            "smaller": objects.smaller,
        }
        self.correct(actions[name], image, *places)

    def _on_strokes(self) -> None:
        if self.state.message == _UNCERTAIN:
            self.state.message = ""
        self.previews.request_update()
        self.drafts.request()

    def _on_learned(self) -> None:
        """Have the layers of uncertainty follow the strokes; without classes there are none."""
        learned, images = self.state.learned, self.diagnostics.images_of(UNCERTAINTY)
        if learned is None and images:
            self.diagnostics.remove(UNCERTAINTY)
        elif learned is not None:
            for image, hierarchy in learned.request.hierarchies.items():
                if image in images:
                    request = UncertaintyRequest(hierarchy, learned.prototypes)
                    self.uncertainty.ask(image, request)

    def _on_uncertainty(self, values: dict[Image, np.ndarray]) -> None:
        left = self.diagnostics.images_of(UNCERTAINTY)  # others were removed meanwhile
        self.diagnostics.show(UNCERTAINTY, {i: v for i, v in values.items() if i in left})

    def paint(self, image: Image | None = None) -> Labels:
        """Make the strokes layer of an image the active one, with the brush."""
        return self.corrections.paint(self.current_image(image))

    def show_uncertain_place(self, image: Image | None = None) -> tuple[int, ...]:
        """Show the place of an image where a stroke helps most, with the brush; return it."""
        image, prototypes = self.current_image(image), self.state.learned_prototypes
        if prototypes is None:
            raise InputError("No class is learned yet: paint a stroke of each class first.")
        hierarchy = self.state.results[image].hierarchy
        place = hierarchy.most_uncertain_place(prototypes)
        layer = self.corrections.paint(image)
        world = layer.data_to_world(layer_place(place, layer.data.shape, hierarchy.axes))
        self.viewer.dims.set_point(range(self.viewer.dims.ndim)[-len(world) :], world)
        shown = self.viewer.dims.displayed[-2:]
        first = self.viewer.dims.ndim - len(world)
        camera_of(self.viewer).center = (0.0, *(world[axis - first] for axis in shown))
        self.state.message = _UNCERTAIN
        return place

    def fix_classes(self, fixed: bool) -> None:
        """Store the classes of the current image in the model, or let them follow each image."""
        if fixed:
            self.corrections.fix_classes(self.current_image())
        else:
            self.corrections.release_classes()

    def detect_by_classes(self, by_classes: bool) -> None:
        """Detect objects only inside some classes, or everywhere.

        Starts with the class whose pixels lie most in detected objects.
        """
        image, class_ids = self.state.first_image, None
        if by_classes:
            foreground = image and self.state.foreground_class(image, self.state.cut)
            class_ids = (foreground or 1,)
        self.state.change_cut(class_ids=class_ids)

    def _find_objects(self, image: Image, request: ObjectRequest) -> None:
        if not self.alternatives.detects(image, request):  # for its picture
            self.finder.ask(image, request)

    # Keep, look, export

    def keep(self) -> list[Labels]:
        """Copy what the previews show to layers that are the user's."""
        layers = self.kept.keep()
        names = " and ".join(f'"{layer.name}"' for layer in layers)
        self.state.message = f"Kept as {names} (hidden below the preview)."
        self._update_columns()
        return layers

    def show_diagnostic(self, name: str) -> None:
        """Begin to compute a diagnostic layer."""
        mode = self.state.cut.mode

        def show(values: dict[Image, np.ndarray]) -> None:
            is_left = name == UNCERTAINTY and mode == "markers" != self.state.cut.mode
            self.diagnostic_shown.emit(self.diagnostics.show(name, {} if is_left else values))

        work = self.diagnostics.work(name)
        self.queue.run([Task(name, f"Computing the {name}", work, lambda *_: [], announce=show)])

    def toggle_diagnostic(self, name: str) -> None:
        """Begin to compute a diagnostic layer, or remove those of this name."""
        if name in self.state.diagnostics:
            self.diagnostics.remove(name)
            self.previews.show([image for image in self.state.images if image.visible])
        else:
            self.show_diagnostic(name)

    def _measured_layer(self) -> Labels | None:
        image = self.state.first_image
        return measured_layer(self.viewer, [] if image is None else self._layers_on(image))

    def _measured(self, layer: Labels | None) -> Labels:
        """Return a layer with an up-to-date table: the one given, the active, or the newest."""
        self.kept.wait()
        layer = self._measured_layer() if layer is None else unwrapped(layer)
        if layer is None:
            raise InputError("There is no Labels layer with measurements: press Keep to make one.")
        self.kept.remeasure(layer)
        return layer

    def color_by(self, column: str, layer: Labels | None = None) -> None:
        """Colour a Labels layer by a column of its features."""
        layer, column = self._measured(layer), column or LABEL
        self.state.legend = color_by(layer, column)
        layer.visible = True
        self.previews.show_instead(layer)
        self.state.message = ""  # which may say that the layer is hidden
        self.dock.color_box.setCurrentText(column)

    def export_table(
        self, path: str | PathLike[str], layer: Labels | None = None, pieces: bool = False
    ) -> None:
        """Write the features of a Labels layer as CSV, or a row for each connected piece."""
        layer = self._measured(layer)
        export_table(layer, path, self.kept.table_of_pieces(layer) if pieces else None)

    def show_table(self) -> None:
        """Open napari's own features table on a kept layer, at the bottom of the window."""
        self.viewer.layers.selection.active = self._measured(None)
        table, _ = self.viewer.window.add_plugin_dock_widget("napari", "Features table widget")
        if isinstance(window := table.window(), QMainWindow):  # not floating: wide, below all
            window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, table)
            table.show()
            window.resizeDocks([table], [_TABLE_HEIGHT], Qt.Orientation.Vertical)

    @property
    def script(self) -> str:
        """Python code that makes the current result again."""
        return script_of(self.state, read_settings().folder)

    def copy_script(self) -> None:
        """Put the script on the clipboard."""
        QApplication.clipboard().setText(self.script)
        self.state.message = "The script is on the clipboard."

    def save_hierarchy(self, path: str | PathLike[str], image: Image | None = None) -> None:
        """Begin to write the hierarchy of an image to a folder."""
        self.queue.run([self.hierarchy_io.saving(path, self.current_image(image))])

    def open_hierarchy(self, path: str | PathLike[str]) -> None:
        """Begin to read a hierarchy, and show it on its image if that is open."""

        def announce(loaded: tuple[Hierarchy, int | None, Draft | None]) -> None:
            self._show_result(self.state.images[0])
            self.segmented.emit(loaded[0])

        self.queue.run([replace(self.hierarchy_io.opening(path), announce=announce)])

    # Dialogs

    def _ask_and(self, act: Callable[[str], object], ask: Callable[[], str | None]) -> None:
        if path := ask():
            act(path)

    def _ask_and_save_hierarchy(self) -> None:
        image = self.current_image()
        if path := self.dock.ask_where_to_save_hierarchy(image.name):
            self.save_hierarchy(path, image)

    def _ask_and_export(self) -> None:
        layer = self._measured(None)
        if path := self.dock.ask_where_to_export(layer.name):
            self.export_table(path, layer, self.dock.pieces_box.isChecked())
            self.state.message = f"Wrote {Path(path).name}."

    # What happens in the viewer and in jobs

    def follow_layers(self) -> None:
        """Follow the viewer's layers: which images can be chosen, and which results are left."""
        if self.is_closed:  # napari goes on calling a dock that was closed
            return
        state, layers = self.state, [unwrapped(layer) for layer in self.viewer.layers]
        if removed := [image for image in state.results if image not in layers]:
            state.drop_results(removed)
        self.previews.release_removed()
        self.diagnostics.update_names()
        for image, result in state.results.items():
            if result.markers is not None and result.markers not in layers:
                state.change_result(image, markers=None)
        images = tuple(
            layer
            for layer in layers
            if isinstance(layer, Image) and METADATA_KEY not in layer.metadata
        )
        state.open_labels = tuple(layer for layer in layers if isinstance(layer, Labels))
        if state.starting_segments not in state.open_labels:
            state.starting_segments = None
        if not images and not state.busy:
            state.message = ""  # which was about images that are gone
        if images == state.open_images:
            self.dock.images.draw_list()  # one may have been renamed
        before = state.open_images or images
        state.open_images = images
        chosen = tuple(image for image in images if image in state.images)
        if len(chosen) == 1 and (opened := [i for i in images if i not in before and i.visible]):
            chosen, state.shown = tuple(opened[-1:]), opened[-1]  # it covers the others
        state.images = chosen or self._first_choice()
        self._update_columns()

    def _first_choice(self) -> tuple[Image, ...]:
        """The selected images, or the topmost: a newcomer has one and wants to use it."""
        images = self.state.open_images
        selected = [unwrapped(layer) for layer in self.viewer.layers.selection]
        return tuple(image for image in images if image in selected) or images[-1:]

    def _connect_images(self) -> None:
        self._image_connections.disconnect_all()
        events = [image.events.data for image in self.state.open_images]
        self._image_connections.connect(lambda event: self._follow_data(event.source), *events)

    def _layers_on(self, image: Image) -> list[Layer]:
        """Return the plugin's layers that lie on an image."""
        state, result = self.state, self.state.results[image]
        layers = [state.previews.get(image), result.markers, *self.diagnostics.layers_on(image)]
        kept = [layer for layer, kept in state.kept.items() if kept.image is image]
        return [layer for layer in layers if layer is not None] + kept

    def _follow_data(self, image: Image) -> None:
        """Discard what no longer fits an image that was given other data, and say so."""
        result = self.state.results.get(image)
        if result is None or result.input.has_data_of(image):
            return
        text = pixels_changed_text(image)
        if not result.input.has_shape_of(image):
            self.previews.discard(image)
            text = shape_changed_text(image)
        if not self.state.busy:
            self.state.message = text

    def _on_cut(self, new: Cut, old: Cut) -> None:
        if old.mode == "markers" != new.mode:  # its button is gone
            self.diagnostics.remove(UNCERTAINTY)

    def _on_choice(self) -> None:
        """Take back a line on what was shown before; images that have changed are still so."""
        state = self.state
        if not state.busy and state.message not in ("", LOADING):
            changed = (i for i, result in state.results.items() if not result.input.has_data_of(i))
            state.message = "\n".join(pixels_changed_text(image) for image in changed)

    def _on_painted(self, image: Image, layer: Labels) -> None:
        self.kept.adopt(image, layer)
        self.state.message = (
            f'Your edited preview was saved as "{layer.name}". The next change makes a new preview.'
        )

    def _on_active_layer(self, *_: object) -> None:
        state, active = self.state, unwrapped(self.viewer.layers.selection.active)
        under = (i for i in state.results if active in (i, *self._layers_on(i)))
        state.shown = next(under, state.shown)  # controls and clicks are about the same image
        if self.state.tool is not None:
            QTimer.singleShot(0, self._put_down_tool)  # a new preview may not be in the state yet
        self._update_columns()

    def _put_down_tool(self) -> None:
        """Put the tool down when another layer is active: clicks go to that one."""
        active = unwrapped(self.viewer.layers.selection.active)
        is_preview = active in self.state.previews.values()
        if not self.is_closed and self.state.tool is not None and not is_preview:
            self.state.tool = None
            self.state.message = (
                "The tool was put down because another layer is selected. Select the preview and "
                "choose it again."
            )

    def _on_progress(self, event: Progress) -> None:
        if event.message and event.stage != "file":
            show_warning(event.message)

    def _update_columns(self) -> None:
        columns = columns_of(self._measured_layer())
        self.state.table_columns = None if columns is None else tuple(columns)

    # Wait and close

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing runs and the previews are up to date."""
        finders = (self.finder, self.learner, self.uncertainty, self.refiner)
        is_busy = self.state.busy or any(p.busy for p in (*finders, self.comparer, self.kept))
        return not (is_busy or self.alternatives.is_awaited) and self.previews.is_up_to_date

    def wait(self, timeout: float | None = None) -> None:
        """Let Qt work until nothing runs and nothing waits; then raise the last error."""
        if not wait_until(lambda: self.is_at_rest, timeout):
            raise TimeoutError(f"Still busy with {self.state.busy} after {timeout} s.")
        self.reporter.raise_last()

    def do_now(self, action: Callable[..., object], *arguments: Any) -> None:
        """Begin something and wait for it; errors are raised instead of popping up."""
        self.reporter.shows_popups = False
        try:
            action(*arguments)
            self.wait()
        finally:
            self.reporter.shows_popups = True

    def close(self) -> None:
        """Stop everything, leave all layers to napari, and be silent from now on."""
        if self.is_closed:
            return
        self.is_closed = True
        state = self.state
        self.drafts.close()
        save_state(self.viewer, state)
        state.events.disconnect()
        for name in state.events:
            state.events[name].disconnect()
        self._connections.disconnect_all()
        self._image_connections.disconnect_all()
        self.dock.images.close_connections()
        # In any order: the signals of the state are disconnected, so no part hears of another.
        for part in (
            self.devices,
            self.kept,
            self.visibility,
            self.tools,
            self.alignment,
            self.corrections,
            self.previews,
            self.alternatives,
            self.comparer,
            self.learner,
            self.uncertainty,
            self.finder,
            self.refiner,
            self.queue,
        ):
            part.close()
        state.busy, state.results, state.kept, state.objects, state.previews = "", {}, {}, {}, {}
        state.alternatives, state.mode_pictures, state.learned = None, None, None
        state.refined = {}


def _listed(inputs: Sequence[ImageInput]) -> str:
    """Name images in a few words."""
    return " and ".join(i.name for i in inputs) if len(inputs) < 3 else f"{len(inputs)} images"
