"""Third section of the dock: segment, and the controls that the preview follows."""

from __future__ import annotations

from math import prod

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QLabel,
    QPushButton,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_aeseg._napari.state import DISPLAYS, Display, DockState
from napari_aeseg._napari.views.choices.alternatives import AlternativesView
from napari_aeseg._napari.views.choices.modes import ModesView
from napari_aeseg._napari.views.classes import ClassesPanel
from napari_aeseg._napari.views.histogram import SizeHistogram
from napari_aeseg._napari.views.markers import MarkersPanel
from napari_aeseg._napari.views.params_form import ParamsForm
from napari_aeseg._napari.views.tools import ToolsPanel
from napari_aeseg._napari.views.widgets import (
    Form,
    NumberSlider,
    WrappedLabel,
    choice_box,
    fill_column,
    heading,
    ignore_wheel,
    in_a_row,
    push_button,
)
from napari_aeseg.params import ComparisonParams
from napari_aeseg.regions.objects.settings import POLARITIES
from napari_aeseg.regions.shapes import object_diameters

_TIPS = {
    "n_regions": "How many regions. The slider is logarithmic, and the suggested number is marked.",
    "starting_segments": "What Segment starts from: small patches, or the segments of a Labels "
    "layer, for example from Cellpose, StarDist or SAM. They are merged and classified, and never "
    "cut; pixels with label 0 are cut into patches.",
    "n_in_preview": "How many regions are shown where this is another number: after merges, splits "
    "and locks, and where there cannot be so many.",
    "threshold": "Neighbours that differ less than this merge: 0 keeps every patch apart, 1 gives "
    "one region. The same threshold means the same difference in every image.",
    "smallest": "Pixels of the smallest region, or connected piece of a class. Smaller ones are "
    "joined to what is around them.",
    "min_size": "Area of the smallest object in pixels; 'auto' leaves out what is too small and "
    "faint beside the others.",
    "max_size": "Area of the largest object in pixels; 'auto' chooses it from the image.",
    "diameter": "Diameter of a typical object in pixels; 'auto' chooses it from the image.",
    "polarity": "Look for objects that are brighter or darker than their surroundings, or both; "
    "'auto' takes those that look more like objects.",
    "sensitivity": "0 finds clear objects only, 1 all that may be objects.",
    "exclude_borders": "Leave out objects that touch the edge of the image.",
    "detect_by": "Detect objects that are brighter or darker than their surroundings, in all "
    "channels together or in one, or objects in the classes that are checked below.",
    "refine": "Let borders follow the pixels instead of the patches: they change sides near a "
    "border where the image is like the other side.",
}
_DISPLAY_TIP = "Fill the segments, draw their outlines, or hide the preview (O on the preview)."
_PRIMARY = """
QPushButton { font-weight: bold; }
QPushButton:enabled { background: palette(highlight); }
"""
_LARGEST_SCALE = 1000  # patches averaged over, at the end of the slider
#: Of what sizes of objects are: the text, the end of the slider, and where it begins when "auto" is
#: unchecked, in pixels.
_SIZES = {
    "diameter": ("Diameter", 1_000, 20),
    "min_size": ("Min. size", 10_000, 15),
    "max_size": ("Max. size", 1_000_000, 10_000),
}


_CLASSES = "classes"  # what objects are detected by, instead of a channel


def auto_box(name: str) -> QCheckBox:
    """Return a check box that leaves a value to the plugin."""
    box = QCheckBox("auto")
    box.setToolTip(f"Choose the {name} from the image.")
    box.setAccessibleName(f"Automatic {name}")
    return box


class RegionsPanel(QWidget):
    """How many regions."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.n_regions = NumberSlider(1, 1)
        self.n_regions.changed.connect(lambda n: self._choose(int(n), None))
        self.threshold = NumberSlider(0, 1, decimals=3, logarithmic=False)
        self.threshold.changed.connect(lambda t: self._choose(None, t))
        self.suggest_button = push_button(
            "Suggest",
            "Take the number of regions at which the cost of merging jumps, for each image.",
        )
        self.suggest_button.clicked.connect(lambda: self._choose(None, None))
        self.n_in_preview = QLabel()
        self.n_in_preview.setToolTip(_TIPS["n_in_preview"])
        form = Form()
        form.add("Regions", self.n_regions, _TIPS["n_regions"])
        form.add("Threshold", self.threshold, _TIPS["threshold"])
        form.addRow(self.n_in_preview, self.suggest_button)
        self.setLayout(form)
        state.on("cut", "images", "shown", "results", "refined", draw=self._draw)

    def _draw(self) -> None:
        """Show the cut; what depends on an image is that of the first one."""
        cut, hierarchy = self._state.cut, self._state.hierarchy
        for control in (self.n_regions, self.threshold, self.suggest_button):
            control.setEnabled(hierarchy is not None)
        self.n_regions.set_range(1, self._state.max_regions)
        suggested = None if hierarchy is None else hierarchy.suggest_n_regions()
        self.n_regions.set_mark(suggested)
        self.suggest_button.setText("Suggest" if suggested is None else f"Suggested: {suggested}")
        if hierarchy is not None:
            self.n_regions.value = cut.n_regions or cut.regions_in(hierarchy)
            self.threshold.value = cut.threshold_in(hierarchy)
        image = self._state.first_image if cut.mode == "regions" else None
        number = None if image is None else self._state.number_shown(image)
        self.n_in_preview.setText(
            "" if number in (None, self.n_regions.value) else f"{number} shown"
        )

    def _choose(self, n_regions: int | None, threshold: float | None) -> None:
        self._state.change_cut(n_regions=n_regions, threshold=threshold)


class ObjectsPanel(QWidget):
    """What objects are looked for: their sizes and kind; how many there are."""

    detect_by_classes = Signal(bool)

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.sizes: dict[str, NumberSlider] = {}
        self.auto: dict[str, QCheckBox] = {}
        self._found_sizes: dict[str, float] = {}  # typical, smallest and largest
        form = Form()
        for name in _SIZES:
            self._add_size(form, name)
        self.polarity = choice_box({polarity: polarity for polarity in POLARITIES})
        self.polarity.activated.connect(
            lambda _: state.change_cut(polarity=self.polarity.currentData())
        )
        self.sensitivity = NumberSlider(0, 1, decimals=2, logarithmic=False)
        self.sensitivity.changed.connect(lambda s: state.change_cut(sensitivity=s))
        self.exclude_borders = QCheckBox("Exclude borders")
        self.exclude_borders.setToolTip(_TIPS["exclude_borders"])
        self.exclude_borders.clicked.connect(lambda on: state.change_cut(exclude_borders=on))
        self.detect_by = QComboBox()
        self.detect_by.activated.connect(self._choose_detection)
        ignore_wheel(self.detect_by)
        self.number = WrappedLabel()
        form.add("Polarity", self.polarity, _TIPS["polarity"])
        form.add("Sensitivity", self.sensitivity, _TIPS["sensitivity"])
        form.addRow("", self.exclude_borders)
        form.add("Detect by", self.detect_by, _TIPS["detect_by"])
        self.sizes_shown = SizeHistogram()
        form.addRow(self.number)
        form.addRow(self.sizes_shown)
        self.setLayout(form)
        state.on("cut", "images", "shown", "results", "objects", draw=self._draw)

    def _add_size(self, form: Form, name: str) -> None:
        text, largest, _ = _SIZES[name]
        slider = self.sizes[name] = NumberSlider(1, largest, decimals=int(name == "diameter"))
        kind = float if name == "diameter" else int
        slider.changed.connect(lambda size: self._state.change_cut(**{name: kind(size)}))
        auto = self.auto[name] = auto_box(text.lower())
        auto.clicked.connect(lambda on: self._choose_size(name, on))
        form.add(text, slider, _TIPS[name], in_a_row(auto, slider))

    def _choose_size(self, name: str, is_auto: bool) -> None:
        smallest, largest = self._range(name)
        start = min(max(self._found_sizes.get(name, _SIZES[name][2]), smallest), largest)
        self._state.change_cut(**{name: None if is_auto else start})

    def _range(self, name: str) -> tuple[float, float]:
        """The smallest and the largest value on offer; `min_size` is never above `max_size`."""
        cut, end = self._state.cut, _SIZES[name][1]
        value = getattr(cut, name) or 1
        smallest = cut.min_size or 1 if name == "max_size" else min(1, value)
        if name == "min_size" and cut.max_size is not None:
            end = cut.max_size
        return smallest, max(end, value, smallest)

    def _draw(self) -> None:
        cut = self._state.cut
        self.setEnabled(bool(self._state.hierarchies))
        for name, slider in self.sizes.items():
            size = getattr(cut, name)
            self.auto[name].setChecked(size is None)
            slider.setEnabled(size is not None)
            slider.set_range(*self._range(name))
            if size is None:
                slider.show_unknown()
            else:
                slider.value = size
        self.polarity.setCurrentIndex(self.polarity.findData(cut.polarity))
        self.sensitivity.value = cut.sensitivity
        self.exclude_borders.setChecked(cut.exclude_borders)
        self._draw_detection()
        self._draw_found()

    def _draw_detection(self) -> None:
        """Offer the channels of the first image, if it has several."""
        cut, hierarchy = self._state.cut, self._state.hierarchy
        number = 0 if hierarchy is None or hierarchy.channels is None else hierarchy.axes.channels
        choices: dict[str, object] = {"brightness": None}
        choices |= {f"channel {k}": k for k in range(1, max(number, cut.channel or 0) + 1)}
        choices["checked classes"] = _CLASSES
        if [self.detect_by.itemText(i) for i in range(self.detect_by.count())] != [*choices]:
            self.detect_by.clear()
            for text, value in choices.items():
                self.detect_by.addItem(text, value)
        chosen = cut.channel if cut.class_ids is None else _CLASSES
        self.detect_by.setCurrentIndex([*choices.values()].index(chosen))

    def _choose_detection(self, index: int) -> None:
        channel = self.detect_by.itemData(index)
        by_classes = channel == _CLASSES
        if by_classes != (self._state.cut.class_ids is not None):
            self.detect_by_classes.emit(by_classes)
        if not by_classes:
            self._state.change_cut(channel=channel)
        self._draw()  # it may have been refused

    def _draw_found(self) -> None:
        """Show how many objects there are in the first image, and how large they are."""
        image, cut = self._state.first_image, self._state.cut
        is_shown = image is not None and cut.mode == "objects"
        objects = self._state.objects_of(image, cut) if is_shown else None
        self._found_sizes = {}
        if objects is None:  # still being detected
            self.number.setText("")
            return
        axes = self._state.results[image].hierarchy.axes
        diameters = object_diameters(objects, axes)
        pixels = np.bincount(objects.ravel())[1:]
        pixels = pixels[pixels > 0]
        number = len(pixels)
        if number:
            self._found_sizes["diameter"] = float(np.median(diameters))
            if "T" not in axes.space:
                self._found_sizes |= {"min_size": int(pixels.min()), "max_size": int(pixels.max())}
        for name, size in self._found_sizes.items():
            if getattr(cut, name) is None:
                smallest, largest = self._range(name)
                self.sizes[name].set_range(smallest, max(largest, size))
                self.sizes[name].value = size
        text = "1 object" if number == 1 else f"{number} objects"
        if number > 1:
            low, usual, high = np.percentile(diameters, [10, 50, 90])
            text += f", diameter {usual:.3g} ({low:.3g} to {high:.3g}) pixels"
        self.number.setText(text if number else cut.object_settings.if_none_found)
        self.sizes_shown.show_values(diameters)


class SmallestPanel(QWidget):
    """The smallest region, or piece of a class; 1 is any."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.min_size = NumberSlider(1, 1)
        self.min_size.changed.connect(
            lambda size: state.change_cut(min_size=int(size) if size > 1 else None)
        )
        form = Form()
        form.add("Min. size", self.min_size, _TIPS["smallest"])
        self.setLayout(form)
        state.on("cut", "images", "shown", "results", draw=self._draw)

    def _draw(self) -> None:
        cut, hierarchy = self._state.cut, self._state.hierarchy
        self.setEnabled(hierarchy is not None)
        largest = 1 if hierarchy is None else prod(hierarchy.axes.space_shape)
        value = cut.min_size or 1
        self.min_size.set_range(1, max(min(largest, cut.max_size or largest), value))
        self.min_size.value = value


# Texts of the choices of `ComparisonParams.whitening`.
_WHITENINGS = {"neighbours": "between neighbours", "regions": "within regions"}


class ComparisonPanel(QWidget):
    """How patches are compared: a row for each field of `ComparisonParams`."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.balance = NumberSlider(
            0, 1, decimals=2, logarithmic=False, ends=("brightness", "texture")
        )
        self.balance.changed.connect(lambda b: state.change_comparison(balance=b))
        self.scale = NumberSlider(1, _LARGEST_SCALE, decimals=1)
        self.scale.changed.connect(lambda s: state.change_comparison(scale=s))
        self.auto_scale = auto_box("smoothing scale")
        self.auto_scale.clicked.connect(
            lambda auto: state.change_comparison(scale="auto" if auto else self.scale.value)
        )
        self.whitening = choice_box(_WHITENINGS)
        self.whitening.activated.connect(
            lambda: state.change_comparison(whitening=self.whitening.currentData())
        )
        fields = ComparisonParams.model_fields
        self.form = form = Form()
        form.add("Balance", self.balance, str(fields["balance"].description))
        row = in_a_row(self.auto_scale, self.scale)
        form.add("Smoothing\nscale", self.scale, str(fields["scale"].description), row)
        form.add("Whitening", self.whitening, str(fields["whitening"].description))
        self.setLayout(form)
        state.on("comparison", "cut", "images", "shown", "results", draw=self._draw)

    def _draw(self) -> None:
        comparison, hierarchy = self._state.comparison, self._state.hierarchy
        self.balance.value = comparison.balance
        self.whitening.setCurrentIndex(self.whitening.findData(comparison.whitening))
        for part in (self.form.labelForField(self.whitening), self.whitening):
            part.setVisible(self._state.cut.needs_classes)
        self.auto_scale.setChecked(comparison.scale == "auto")
        self.scale.setEnabled(comparison.scale != "auto")
        scale = comparison.scale
        if scale == "auto":
            scale = 1 if hierarchy is None else hierarchy.descriptor.scale
        self.scale.set_range(1, max(_LARGEST_SCALE, scale))
        self.scale.value = scale
        if comparison.scale == "auto" and hierarchy is None:
            self.scale.show_unknown()


class SegmentsView(QWidget):
    """Buttons to segment, and a panel of controls for each mode."""

    def __init__(self, state: DockState) -> None:
        super().__init__()
        self._state = state
        self.form = ParamsForm(state.segmentation)
        self.form.changed.connect(lambda params: setattr(state, "segmentation", params))
        self.regions, self.objects = RegionsPanel(state), ObjectsPanel(state)
        self.classes, self.markers = ClassesPanel(state), MarkersPanel(state)
        self.tools, self.modes = ToolsPanel(state), ModesView(state)
        self.comparison, self.alternatives = ComparisonPanel(state), AlternativesView(state)
        self._make_buttons()
        self.more = QWidget()
        fill_column(self.more, self._make_start(), self.form)
        self.smallest = SmallestPanel(state)
        self.smooth_borders = QCheckBox("Smooth borders")
        self.smooth_borders.setToolTip(_TIPS["refine"])
        self.smooth_borders.clicked.connect(lambda on: state.change_cut(refine=on))
        self._lay_out()
        state.on("segmentation", draw=self._draw_params)
        state.on("cut", "images", "shown", "results", draw=self._draw_mode)

    def _make_buttons(self) -> None:
        self.segment_button = push_button(
            "Segment",
            "Segment the checked images with the model; without a trained model, with the "
            "built-in base model. Out of date: the model, patches, axes or pixels are others now.",
        )
        self.keep_button = push_button(
            "Keep",
            "Copy the preview to a new Labels layer, with measurements of every segment. The new "
            "layer is hidden below the preview, which you can go on changing.",
        )
        self.open_button = push_button(
            "Open session…",
            "Open a saved segmentation (a folder *.aeseg.zarr) and go on tuning it. It is shown on "
            "its image if that is open.",
            "Open a segmentation",
        )
        self.save_button = push_button(
            "Save session…",
            "Save all possible segmentations of the image to a folder (*.aeseg.zarr), to go on "
            "tuning later without segmenting again. To keep only the current one, press Keep.",
            "Save the segmentation",
        )
        self.session = in_a_row(self.open_button, self.save_button)
        self.segment_button.setStyleSheet(_PRIMARY)
        self.apply_button = push_button(
            "Apply to all open images",
            "Segment every open image like this one, with the same model, controls and classes.",
        )

    def _make_start(self) -> QWidget:
        """What the trees start from: patches, or the segments of a Labels layer."""
        self.start_box = QComboBox()
        self.start_box.setToolTip(_TIPS["starting_segments"])
        self.start_box.setAccessibleName("Starting segments")
        self.start_box.activated.connect(self._choose_start)
        ignore_wheel(self.start_box)
        self.start_row = in_a_row(QLabel("Starting segments"), self.start_box)
        self._state.on(
            "open_labels", "previews", "results", "starting_segments", draw=self._draw_start
        )
        return self.start_row

    def _choose_start(self, index: int) -> None:
        state = self._state
        state.starting_segments = state.segment_layers[index - 1] if index else None

    def _draw_start(self) -> None:
        layers, chosen = self._state.segment_layers, self._state.starting_segments
        self.start_row.setVisible(bool(layers))
        with signals_blocked(self.start_box):
            self.start_box.clear()
            self.start_box.addItems(["patches", *(layer.name for layer in layers)])
            self.start_box.setCurrentIndex(layers.index(chosen) + 1 if chosen in layers else 0)

    def _make_display(self) -> QWidget:
        """A row of buttons for how previews are drawn."""
        self.displays: dict[Display, QPushButton] = {}
        for display in DISPLAYS:
            button = push_button(display.capitalize(), _DISPLAY_TIP, f"Preview: {display}")
            button.setCheckable(True)
            button.clicked.connect(lambda *_, display=display: self._choose_display(display))
            self.displays[display] = button
        self._state.on("display", draw=self._draw_display)
        return in_a_row(QLabel("Preview"), *self.displays.values())

    def _choose_display(self, display: Display) -> None:
        self._state.display = display
        self._draw_display()  # a click on the one in use has unchecked it

    def _draw_display(self) -> None:
        for display, button in self.displays.items():
            button.setChecked(display == self._state.display)

    def _lay_out(self) -> None:
        fill_column(
            self,
            heading("3  Segments"),
            in_a_row(self.segment_button, self.keep_button),
            self.modes,
            self._make_display(),
            *(self.regions, self.objects, self.tools, self.classes, self.markers, self.comparison),
            self.smallest,
            self.smooth_borders,
            self.alternatives,
            self.apply_button,
        )

    def _draw_params(self) -> None:
        if self.form.value is not self._state.segmentation:
            self.form.value = self._state.segmentation

    def _draw_mode(self) -> None:
        cut = self._state.cut
        self.regions.setVisible(cut.mode == "regions")
        self.objects.setVisible(cut.mode == "objects")
        self.classes.setVisible(cut.needs_classes)
        self.markers.setVisible(cut.mode == "markers")
        self.tools.setVisible(cut.mode in ("regions", "objects"))
        hierarchy = self._state.hierarchy
        self.smallest.setVisible(cut.mode in ("regions", "classes"))
        self.smooth_borders.setVisible(cut.mode != "objects")
        self.smooth_borders.setEnabled(hierarchy is None or hierarchy.evidence is not None)
        self.smooth_borders.setChecked(cut.refine)
        # Objects by brightness do not depend on how patches are compared.
        self.comparison.setVisible(cut.mode != "objects" or cut.needs_classes)
