"""No control without an effect, no parameter without a control."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QListWidget,
    QScrollBar,
)

import napari_aeseg as aeseg
from _napari.conftest import QUICK, add_image, discs, halves, train_and_stop
from napari_aeseg import ComparisonParams, Cut, InputError, SegmentationParams, TrainingParams
from napari_aeseg._napari.layers.diagnostics import DIAGNOSTICS
from napari_aeseg._napari.layers.image_input import camera_of
from napari_aeseg._napari.state import DISPLAYS
from napari_aeseg._napari.views.dock import FolderDialog
from napari_aeseg.params import PRESETS
from napari_aeseg.regions.cuts.cut import MODES
from napari_aeseg.regions.objects.settings import POLARITIES

KINDS = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QLineEdit, QListWidget)


def controls(widget) -> list:
    """All controls of the dock; parts of other controls, and scroll bars, are not counted."""
    found = {c for kind in KINDS for c in widget.native.findChildren(kind)}
    return [c for c in found if not c.objectName().startswith("qt_") and type(c) is not QScrollBar]


def at(widget, path: str):
    """The control at a path such as "regions.tools['merge']" below the dock."""
    return eval(path, {}, vars(widget._dock))


def is_offered(widget, control) -> bool:
    """Whether a user can get at it, if need be by unfolding."""
    folded = [fold.content for fold in widget._dock.folds.values()]
    while control is not widget._dock:
        if control.isHidden() and control not in folded:
            return False
        control = control.parentWidget()
    return True


# Before: brings the widget into a state where the control makes sense.


def of_six_regions(widget):
    widget.n_regions = 6


def edited(widget):
    widget.n_regions = 6
    data = widget.preview.data
    widget.merge(*(tuple(np.argwhere(data == label)[0]) for label in (1, 2)))


def with_examples(widget):
    widget.mode = "regions"
    widget.n_regions = 6
    widget.find_similar((10, 10))
    widget.wait(5)


def two_images(widget):
    add_image(widget, discs(), "discs")


def with_draft(widget):
    edited(widget)
    widget._controller.drafts.close()
    (path,) = widget._controller.drafts._paths.values()
    widget._state.drafts = {widget.images[0]: path}


def undone(widget):
    edited(widget)
    widget.undo()


def objects(widget):
    if "discs" in widget.viewer_model.layers:
        widget.images = [widget.viewer_model.layers["discs"]]
    else:
        add_image(widget, discs(), "discs")
        widget.segment()
        widget.wait(20)
    widget.mode, widget.n_classes = "objects", 2
    widget.wait(20)


def objects_of_a_size(widget):
    objects(widget)
    widget.min_size = 20


def objects_of_a_largest_size(widget):
    objects(widget)
    widget.max_size = 400  # the large discs have 253


def objects_of_a_diameter(widget):
    objects(widget)
    widget.diameter = 18.0


def objects_at_the_edge(widget):
    objects(widget)
    add_image(widget, discs()[:, 10:], "cut through")
    widget.segment()
    widget.wait(20)


def objects_of_classes(widget):
    objects(widget)
    widget.n_classes, widget.class_ids = 3, (2, 3)


def classes(widget):
    widget.mode = "classes"


def markers(widget):
    widget.mode = "markers"


def outlined(widget):
    widget.display = "outlines"


def segments(widget):
    markers(widget)
    widget.markers_are = "segments"


def examples(widget):
    markers(widget)
    widget.markers_are = "classes"
    layer = widget.paint()
    layer.data[10:20, 8], layer.data[10:20, 40] = 1, 2
    layer.refresh()
    widget.wait(20)


def own_scale(widget):
    widget.scale = 4.0
    widget.wait(20)


def unfinished(widget):
    train_and_stop(widget)


def at_work(widget):
    widget.training_params = QUICK.updated(steps=1_000_000)
    widget.train()


def second_image(widget):
    add_image(widget, halves(seed=1), "second", choose=False)


def kept(widget):
    (layer,) = widget.keep()
    widget.wait(20)
    widget.viewer_model.layers.selection.active = layer


def of_two_levels(widget):
    image = halves()
    widget.viewer_model.add_image([image, image[::2, ::2]], multiscale=True, name="pyramid")
    widget.images = [widget.viewer_model.layers["pyramid"]]


def of_labels(widget):
    widget.viewer_model.add_labels(np.ones(widget.preview.data.shape, int), name="cells")


def saved(widget):
    path = str(widget.folder / "mine.aeseg.zarr")
    widget.save_hierarchy(path)
    widget.viewer_model.layers.remove(widget.preview)
    QFileDialog.getExistingDirectory = lambda *_: path


def folder(widget):
    widget._dock.folder.folder.line.setText(str(widget.folder))


# The act: what the user does to the control.


def click(control):
    control.click()


def choose(index: int):
    def act(box):
        box.setCurrentIndex(index)
        box.activated.emit(index)
        box.textActivated.emit(box.currentText())

    return act


def slide(slider):
    value = slider.value()
    slider.setValue(value + 200 if value < 700 else value - 200)


def step(spin_box):
    spin_box.stepBy(1 if spin_box.value() < spin_box.maximum() else -1)


def write(text: str):
    def act(line):
        line.setText(text)
        line.editingFinished.emit()

    return act


def uncheck(rows):
    rows.item(0).setCheckState(Qt.CheckState.Unchecked)


# The effect: something that must differ afterwards.


def shown(widget):
    return widget.preview.data.tobytes()


def layers(widget):
    return len(widget.viewer_model.layers)


def model(widget):
    return id(widget.model)


def files(widget):
    return sorted(path.name for path in widget.folder.rglob("*"))


def compared(widget):
    return (widget.hierarchy.comparison, widget.comparison)


def value(path: str):
    return lambda widget: eval(path, {}, {"widget": widget, "dock": widget._dock})


def nothing(_):
    pass


#: Each control of the dock: what goes before, what the user does, and what it must change.
CONTROLS = {
    "images.list": (nothing, uncheck, value("len(widget.images)")),
    "images.axes_field": (nothing, write("XY"), value("(widget.axes, widget.axes_text)")),
    "images.resolution_box": (
        of_two_levels, choose(1), value("(widget.resolution, widget.axes_text)")
    ),
    "model.train_button": (nothing, click, model),
    "model.resume_button": (unfinished, click, value("widget.model.unfinished")),
    "model.model_box": (nothing, choose(0), model),
    "model.load_button": (nothing, click, model),
    "model.save_button": (nothing, click, files),
    "model.preset_box": (nothing, choose(2), value("widget.training_params")),
    "model.device_box": (nothing, choose(0), value("widget.device")),
    "model.start_box": (nothing, choose(1), value("widget.start_from")),
    "model.watch_box": (nothing, click, value("widget.watch")),
    "segments.segment_button": (nothing, click, value("id(widget.hierarchy)")),
    "segments.start_box": (of_labels, choose(1), value("widget.starting_segments")),
    "segments.keep_button": (nothing, click, layers),
    "segments.open_button": (saved, click, value("id(widget.hierarchy)")),
    "segments.save_button": (nothing, click, files),
    "segments.apply_button": (second_image, click, value("len(widget.previews)")),
    **{
        f"segments.modes.buttons[{mode!r}]": (
            classes if mode == "regions" else nothing, click, value("widget.mode")
        )
        for mode in MODES
    },
    **{
        f"segments.displays[{display!r}]": (
            outlined if display == "fill" else nothing, click, value("widget.display")
        )
        for display in DISPLAYS
    },
    "segments.regions.n_regions.slider": (nothing, slide, shown),
    "segments.regions.n_regions.number": (nothing, step, shown),
    "segments.regions.threshold.slider": (nothing, lambda slider: slider.setValue(10), shown),
    "segments.regions.threshold.number": (nothing, step, value("widget.cut.threshold")),
    "segments.regions.suggest_button": (edited, click, value("widget.n_regions")),
    "segments.tools.buttons['merge']": (nothing, click, value("widget.tool")),
    "segments.tools.buttons['split']": (nothing, click, value("widget.tool")),
    "segments.tools.buttons['lock']": (nothing, click, value("widget.tool")),
    "segments.tools.buttons['similar']": (nothing, click, value("widget.tool")),
    "segments.tools.forget_button": (with_examples, click, shown),
    "segments.tools.similarity.slider": (
        with_examples, lambda slider: slider.setValue(0), shown
    ),
    "segments.tools.similarity.number": (with_examples, step, value("widget.similarity")),
    "segments.tools.undo_button": (edited, click, shown),
    "segments.tools.redo_button": (undone, click, shown),
    "segments.tools.buttons['smaller']": (objects, click, value("widget.tool")),
    "segments.tools.buttons['larger']": (objects, click, value("widget.tool")),
    "segments.tools.buttons['add']": (objects, click, value("widget.tool")),
    "segments.tools.buttons['delete']": (objects, click, value("widget.tool")),
    **{
        f"segments.objects.{part}": (prepare, act, value(f"widget.{name}"))
        for name, prepare in {
            "min_size": objects_of_a_size,
            "max_size": objects_of_a_largest_size,
            "diameter": objects_of_a_diameter,
        }.items()
        for part, act in {
            f"sizes[{name!r}].number": step, f"auto[{name!r}]": click
        }.items()
    },
    "segments.objects.sizes['min_size'].slider": (objects_of_a_size, slide, shown),
    "segments.objects.sizes['max_size'].slider": (
        objects_of_a_largest_size, lambda slider: slider.setValue(200), shown
    ),
    "segments.objects.sizes['diameter'].slider": (objects_of_a_diameter, slide, shown),
    "segments.objects.polarity": (objects, choose(POLARITIES.index("dark")), shown),
    # Clear discs are objects at any sensitivity.
    "segments.objects.sensitivity.slider": (objects, slide, value("widget.sensitivity")),
    "segments.objects.sensitivity.number": (objects, step, value("widget.sensitivity")),
    "segments.objects.exclude_borders": (objects_at_the_edge, click, shown),
    "segments.smallest.min_size.slider": (
        of_six_regions, lambda slider: slider.setValue(900), shown
    ),
    "segments.smallest.min_size.number": (nothing, step, value("widget.min_size")),
    "segments.smooth_borders": (of_six_regions, click, shown),
    "segments.objects.detect_by": (objects, choose(1), shown),
    "segments.classes.n_classes.slider": (classes, slide, shown),
    "segments.classes.n_classes.number": (classes, step, shown),
    "segments.classes.fix_box": (classes, click, value("widget.model.prototypes is None")),
    **{
        f"segments.classes.rows[{i}].{part}": entry
        for i in range(3)
        for part, entry in {
            "box": (objects_of_classes, click, value("widget.class_ids")),
            "swatch": (classes, click, value("widget.class_colors")),
            "name": (classes, write("gland"), value("widget.class_names")),
        }.items()
    },
    "segments.markers.choices['classes']": (segments, click, value("widget.markers_are")),
    "segments.markers.choices['segments']": (examples, click, value("widget.markers_are")),
    "segments.markers.button": (markers, click, layers),
    "segments.markers.next_button": (
        examples, click, lambda widget: camera_of(widget.viewer_model).center
    ),
    "segments.markers.uncertainty_button": (examples, click, layers),
    "segments.markers.keep_button": (examples, click, value("widget.mode")),
    "segments.comparison.balance.slider": (nothing, slide, compared),
    "segments.comparison.balance.number": (nothing, step, compared),
    "segments.comparison.scale.slider": (own_scale, slide, compared),
    "segments.comparison.scale.number": (own_scale, step, compared),
    "segments.comparison.auto_scale": (own_scale, click, compared),
    "segments.comparison.whitening": (classes, choose(1), compared),
    **{
        f"folds[{name!r}].button": (
            nothing, click, value(f"dock.folds[{name!r}].content.isHidden()")
        )
        for name in (
            "images", "model", "training", "patches", "diagnostics", "tables", "folder"
        )
    },
    **{f"diagnostics.buttons[{what!r}]": (nothing, click, layers) for what in DIAGNOSTICS},
    "color_box": (kept, choose(1), value("widget.viewer_model.layers[-2].colormap")),
    "table_button": (kept, click, value("list(widget.opened)")),
    "export_button": (kept, click, files),
    "pieces_box": (kept, click, value("dock.pieces_box.isChecked()")),
    "script_button": (nothing, click, value("widget.clipboard()")),
    "folder.folder.line": (nothing, write("here"), value("dock.folder.folder.folder")),
    "folder.folder.button": (nothing, click, value("dock.folder.folder.folder")),
    "folder.output.line": (nothing, write("there"), value("dock.folder.output.folder")),
    "folder.output.button": (nothing, click, value("dock.folder.output.folder")),
    "folder.existing": (nothing, choose(2), value("dock.folder.existing.currentData()")),
    "folder.button": (folder, click, files),
    "previous_button": (two_images, click, value("widget.images")),
    "next_button": (two_images, click, value("widget.images")),
    "status.bring_button": (with_draft, click, value("len(widget.drafts)")),
    "status.dismiss_button": (with_draft, click, value("len(widget.drafts)")),
    "status.stop_button": (at_work, click, value("widget.busy")),
}  # fmt: skip

FORMS = {"model": TrainingParams, "segments": SegmentationParams}


@pytest.fixture
def ready(segmented, model, tmp_path, monkeypatch):
    """The widget with answers to all dialogs, and a folder for what it writes."""
    segmented.folder = tmp_path / "files"
    segmented.folder.mkdir()
    tifffile.imwrite(segmented.folder / "a.tif", halves())
    path = tmp_path / "cells.aeseg.safetensors"
    model.save(path)
    segmented.opened = []
    segmented.clipboard = lambda: QApplication.clipboard().text()
    QApplication.clipboard().clear()

    def open_dock(*asked):
        segmented.opened.append(asked)
        return segmented.native, None

    window = SimpleNamespace(add_plugin_dock_widget=open_dock)
    monkeypatch.setattr(ViewerModel, "window", window, raising=False)
    answers = {
        "getOpenFileName": (str(path), ""),
        "getSaveFileName": (str(segmented.folder / "saved"), ""),
        "getExistingDirectory": str(segmented.folder),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(QFileDialog, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(FolderDialog, "ask", lambda *_: answers["getSaveFileName"])
    monkeypatch.setattr(
        "napari_aeseg._napari.views.classes.QColorDialog.getColor", lambda *_: QColor("#123456")
    )
    return segmented


def test_every_control_is_known(widget):
    known = {id(at(widget, path)) for path in CONTROLS}
    for name in FORMS:
        known |= {id(c.native) for c in at(widget, name).form.controls.values()}

    unknown = [c for c in controls(widget) if id(c) not in known]

    assert [(type(c).__name__, c.accessibleName() or c.toolTip()) for c in unknown] == []
    assert len(controls(widget)) == len(known)


def test_every_control_has_a_name_and_a_tooltip(widget):
    texts = {c: c.accessibleName() or getattr(c, "text", str)().strip() for c in controls(widget)}

    assert [c.toolTip() for c, text in texts.items() if text in ("", "…")] == []
    assert [text for c, text in texts.items() if not c.toolTip()] == []


def test_the_ends_of_balance_are_named(widget):
    balance = widget._dock.segments.comparison.balance

    assert balance.slider.accessibleName() == "Balance"
    assert [label.text() for label in balance.findChildren(QLabel)] == ["brightness", "texture"]


#: Preparations in one dock, since opening it takes most of the time; the others have one each.
IN_ONE_DOCK = [
    (objects, objects_of_a_size, objects_of_a_largest_size, objects_of_a_diameter,
     objects_at_the_edge, objects_of_classes),
    (of_six_regions, edited, undone, with_examples, outlined, own_scale),
    (classes, markers, segments, examples),
]  # fmt: skip
IN_ONE_DOCK += [
    (prepare,)
    for prepare in dict.fromkeys(row[0] for row in CONTROLS.values())
    if prepare not in sum(IN_ONE_DOCK, ())
]


@pytest.mark.parametrize("preparations", IN_ONE_DOCK, ids=lambda some: some[0].__name__)
def test_every_control_has_an_effect(ready, preparations):
    state = ready._state
    images, results, cut = state.images, state.results, state.cut
    for path, (prepare, act, effect) in CONTROLS.items():
        if prepare not in preparations:
            continue
        state.images, state.results = images, {**state.results, **results}
        state.cut, state.tool = cut, None
        ready.wait(30)
        prepare(ready)
        control = at(ready, path)
        assert control.isEnabled(), path
        assert is_offered(ready, control), path
        before = effect(ready)

        act(control)
        ready.wait(30)

        assert effect(ready) != before, path


# Parameters


def change(control) -> None:
    """Give a control of a form another value, as the user would."""
    native = control.native
    if isinstance(native, QAbstractButton):
        native.click()
    elif isinstance(native, QComboBox):
        native.setCurrentIndex(1 - native.currentIndex())
    elif isinstance(native, QLineEdit):
        native.setText("0, 1")
        native.editingFinished.emit()
    else:
        step(native)


@pytest.fixture
def calls(widget, model, monkeypatch):
    """What the dock calls the core with: (function, arguments), without any work."""
    calls = []

    def spy(name, *names):
        def steps(*positional, **named):
            calls.append((name, {**dict(zip(names, positional, strict=False)), **named}))
            yield from ()
            return model if name == "train" else hierarchy

        monkeypatch.setattr(f"napari_aeseg.api.{name}_steps", steps)

    hierarchy = aeseg.build_hierarchy(halves(), model, device="cpu")
    spy("train", "images", "params")
    spy("hierarchy", "image", "model", "params", "axes", "device", "stop", "name")
    widget.model = model
    return calls


def test_every_parameter_of_training_has_a_control_that_reaches_the_core(widget, calls):
    widget.training_params = TrainingParams()
    form = widget._dock.model.form
    assert set(form.controls) == set(TrainingParams.model_fields)
    for name in TrainingParams.model_fields:
        change(form.controls[name])
        widget.train()
        widget.wait(20)
        default = getattr(TrainingParams(), name)
        assert getattr(calls[-1][1]["params"], name) == getattr(widget.training_params, name)
        assert getattr(calls[-1][1]["params"], name) != default, name


def test_every_parameter_of_segmentation_has_a_control_that_reaches_the_core(widget, calls):
    view = widget._dock.segments
    assert set(view.form.controls) == set(SegmentationParams.model_fields)
    for name in SegmentationParams.model_fields:
        change(view.form.controls[name])
        widget.segment()
        widget.wait(20)
        used = [arguments["params"] for call, arguments in calls if call == "hierarchy"][-1]
        assert getattr(used, name) != getattr(SegmentationParams(), name), name
        assert used == widget.segmentation_params


def test_every_parameter_of_the_comparison_has_a_control_that_reaches_the_core(widget, calls):
    view = widget._dock.segments
    controls = {
        "balance": (step, view.comparison.balance.number),
        "scale": (click, view.comparison.auto_scale),
        "whitening": (choose(1), view.comparison.whitening),
    }
    assert set(controls) == set(ComparisonParams.model_fields)
    for name, (act, control) in controls.items():
        act(control)
        widget.segment()
        widget.wait(20)
        used = [arguments["comparison"] for call, arguments in calls if call == "hierarchy"][-1]
        assert getattr(used, name) != getattr(ComparisonParams(), name), name
        assert used == widget.comparison


def test_every_part_of_a_cut_has_a_control_that_reaches_the_core(ready, monkeypatch):
    seen = []
    for name in ("labels", "of_patch"):
        original = getattr(Cut, name)

        def spy(cut, *arguments, original=original, **named):
            seen.append(cut)
            return original(cut, *arguments, **named)

        monkeypatch.setattr(Cut, name, spy)
    view = ready._dock.segments
    acts = {
        "mode": lambda: click(view.modes.buttons["classes"]),
        "n_regions": lambda: (ready._controller.set_cut(mode="regions"),
                              step(view.regions.n_regions.number)),
        "threshold": lambda: step(view.regions.threshold.number),
        "n_classes": lambda: step(view.classes.n_classes.number),
        "min_size": lambda: (click(view.modes.buttons["objects"]),
                             click(view.objects.auto["min_size"])),
        "max_size": lambda: click(view.objects.auto["max_size"]),
        "diameter": lambda: click(view.objects.auto["diameter"]),
        "polarity": lambda: choose(POLARITIES.index("dark"))(view.objects.polarity),
        "sensitivity": lambda: step(view.objects.sensitivity.number),
        "exclude_borders": lambda: click(view.objects.exclude_borders),
        "class_ids": lambda: choose(1)(view.objects.detect_by),
        "channel": lambda: setattr(ready, "channel", 1),
        "edits": lambda: (ready._controller.set_cut(mode="regions"), edited(ready)),
        "markers_are": lambda: (setattr(ready, "markers_are", "segments"), examples(ready)),
        "refine": lambda: (ready._controller.set_cut(mode="regions"),
                           click(view.smooth_borders)),
    }  # fmt: skip
    assert set(acts) == {field.name for field in fields(Cut)}
    for name, act in acts.items():
        seen.clear()
        before = ready.cut
        if name == "n_classes":
            click(view.modes.buttons["classes"])
        act()
        ready.wait(30)
        assert any(getattr(cut, name) != getattr(before, name) for cut in seen), name


def test_the_smallest_size_of_objects_cannot_be_set_above_the_largest(segmented):
    panel = segmented._dock.segments.objects
    segmented.mode, segmented.max_size = "objects", 12

    click(panel.auto["min_size"])
    panel.sizes["min_size"].slider.setValue(1000)
    panel.sizes["max_size"].slider.setValue(0)
    segmented.wait(20)

    assert (segmented.min_size, segmented.max_size) == (12, 12)


def test_other_choices_reach_the_training(widget, calls):
    widget.device = "auto"
    dock, model = widget._dock, widget.model
    for act, argument, expected in [
        (lambda: choose(1)(dock.model.device_box), "device", "cpu"),
        (lambda: choose(1)(dock.model.start_box), "init", "base"),
        (lambda: choose(2)(dock.model.start_box), "init", model),
        (lambda: write("XY")(dock.images.axes_field), "axes", ["XY"]),
        (lambda: None, "preview_seconds", None),
        (lambda: click(dock.model.watch_box), "preview_seconds", 1.0),
    ]:
        act()
        widget.train()
        widget.wait(20)
        assert calls[-1][1][argument] == expected, argument


def test_device_and_axes_reach_the_segmentation(widget, calls):
    choose(1)(widget._dock.model.device_box)
    write("XY")(widget._dock.images.axes_field)
    widget.segment()
    widget.wait(20)

    assert calls[-1][1]["device"] == "cpu"
    assert calls[-1][1]["axes"].letters == "XY"


def test_resume_reaches_the_training(widget, calls, monkeypatch):
    model = widget.model
    monkeypatch.setattr(type(model), "unfinished", property(lambda _: True))
    widget.resume()
    widget.wait(20)

    assert calls[-1][1]["resume"] is True
    assert calls[-1][1]["init"] is model


# Presets


def test_presets(widget):
    box = widget._dock.model.preset_box
    for name in PRESETS:
        widget.training_params = QUICK.updated(seed=7)
        assert widget.preset is None
        assert box.currentText() == "Custom"
        choose(box.findText("Custom"))(box)
        assert widget.training_params == QUICK.updated(seed=7)

        choose(box.findData(name))(box)

        assert widget.preset == name
        assert widget.training_params == TrainingParams.preset(name).updated(seed=7)
        assert box.findText("Custom") < 0
        change(widget._dock.model.form.controls["width"])
        assert widget.preset is None
        assert box.currentText() == "Custom"
        widget.preset = name
        assert widget._dock.model.form.controls["width"].value == widget.training_params.width


def test_unknown_names_are_refused(widget):
    with pytest.raises(InputError, match="no preset 'quick'"):
        widget.preset = "quick"
    with pytest.raises(InputError, match="start_from = 'scratch'"):
        widget.start_from = "scratch"
    assert widget.start_from == "new"


def test_starting_from_the_current_model_without_one_takes_the_base_model(widget, calls):
    widget.model = None
    widget.start_from = "current"
    widget.train()
    widget.wait(20)

    assert calls[-1][1]["init"] == "base"


def test_resuming_without_a_stopped_training_says_so(widget, model):
    widget.model = model
    widget.resume()
    with pytest.raises(InputError, match="no training to resume"):
        widget.wait(1)
    assert widget._dock.model.resume_button.isHidden()


def test_images_and_model_are_folded_while_there_is_a_segmentation(widget, model):
    folds = widget._dock.folds
    assert folds["images"].is_unfolded
    assert folds["model"].is_unfolded

    widget.model = model
    widget.segment()
    widget.wait(20)
    assert not folds["images"].is_unfolded
    assert not folds["model"].is_unfolded
    assert folds["images"].button.text().endswith("1  Images: halves")
    folds["model"].unfold()
    widget.segment()
    widget.wait(20)
    assert folds["model"].is_unfolded  # the user's choice stays

    widget.viewer_model.layers.clear()
    assert folds["images"].is_unfolded


def test_segment_says_that_the_result_is_out_of_date(segmented, model):
    button, image = segmented._dock.segments.segment_button, segmented.images[0]
    assert button.text() == "Segment"

    segmented.segmentation_params = segmented.segmentation_params.updated(patch_size=6)
    assert button.text() == "Segment (out of date)"
    segmented.segmentation_params = segmented.segmentation_params.updated(patch_size=8)
    assert button.text() == "Segment"
    segmented.axes = "XY"
    assert button.text() == "Segment (out of date)"
    segmented.axes = ""
    image.data = image.data + 1
    assert button.text() == "Segment (out of date)"


def test_models_of_the_session_can_be_chosen_again(widget, model, saved):
    box = widget._dock.model.model_box
    widget.train()
    widget.wait(30)
    trained = widget.model
    assert box.currentText() == "Trained on halves, 3 steps"

    box.setCurrentIndex(0)
    box.activated.emit(0)
    widget.wait(30)
    assert widget.model.any_channels
    assert box.currentText() == "Base model (built in)"
    box.setCurrentIndex(1)
    box.activated.emit(1)
    assert widget.model is trained
    assert widget._state.origin.text == "Trained on halves"

    box.opened.emit()
    autosaved = [path for path in saved.iterdir() if path != widget._state.origin.path]
    assert box.count() == 2 + len(autosaved)
