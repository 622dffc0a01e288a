"""SSD's layers (weiliu89/caffe, branch ssd): prior boxes are constants, detections NonMaxSuppression and sorting."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from sardonyx.convert.caffe.layers import Call, Rule
from sardonyx.convert.caffe.prototxt import Message
from sardonyx.convert.shaped import Array, Tensor, Unsupported

MAX_BOXES = 1_000_000
"""Of a network; SSD 512 has 24,564."""
_FLOAT, _INT64 = int(ir.DataType.FLOAT), int(ir.DataType.INT64)


def _aspect_ratios(p: Message) -> list[float]:
    """1, then each that is new, each followed by its inverse where boxes are flipped."""
    ratios = [1.0]
    flip = p.bool("flip", True)
    for ratio in p.floats("aspect_ratio"):
        if ratio <= 0:
            raise Unsupported("an aspect ratio is not positive")
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if flip else [ratio]
    return ratios


def _prior_sizes(p: Message) -> Array:
    """Width and height of the boxes at each place, in pixels, in order: [boxes, 2]."""
    smallest, largest, ratios = p.floats("min_size"), p.floats("max_size"), _aspect_ratios(p)
    if not smallest or len(largest) not in (0, len(smallest)) or min(smallest) <= 0:
        raise Unsupported(f"it has {len(smallest)} min_size and {len(largest)} max_size")
    sizes = []
    for i, small in enumerate(smallest):
        sizes.append((small, small))
        if largest:
            if largest[i] <= small:
                raise Unsupported("a max_size is not more than its min_size")
            sizes.append((math.sqrt(small * largest[i]),) * 2)
        sizes += [(small * math.sqrt(r), small / math.sqrt(r)) for r in ratios if abs(r - 1) >= 1e-6]
    return np.array(sizes)


def _either(p: Message, name: str, names: tuple[str, str]) -> list[float]:
    """Height and width of an option that has one name for both, or one for each."""
    both = p.float(name, 0.0)
    pair = [p.float(part, 0.0) for part in names]
    return pair if any(pair) else [both, both]


def _prior_box(c: Call) -> list[Tensor]:
    if len(c.inputs) != 2 or any(x.rank != 4 for x in c.inputs):
        raise Unsupported("it needs two inputs of four dims")
    rows, columns = c.inputs[0].known(2, 3)
    size = _either(c.p, "img_size", ("img_h", "img_w"))
    size = size if all(size) else [float(dim) for dim in c.inputs[1].known(2, 3)]
    step = _either(c.p, "step", ("step_h", "step_w"))
    step = step if all(step) else [size[0] / rows, size[1] / columns]
    boxes, offset = _prior_sizes(c.p), c.p.float("offset", 0.5)
    if rows * columns * len(boxes) > MAX_BOXES:
        raise Unsupported(f"it would have {rows * columns * len(boxes):,} boxes")
    y, x = np.meshgrid((np.arange(rows) + offset) * step[0], (np.arange(columns) + offset) * step[1], indexing="ij")
    centres = np.stack([x, y], axis=-1)[:, :, None]
    whole = np.array([size[1], size[0]])
    corners = np.concatenate([(centres - boxes / 2) / whole, (centres + boxes / 2) / whole], axis=-1)
    if c.p.bool("clip", False):
        corners = corners.clip(0, 1)
    elif "clip" not in c.p.fields and (corners.min() < 0 or corners.max() > 1):
        raise Unsupported("boxes reach outside the picture, and Caffe's forks disagree on what clip is if not given")
    variance = c.p.floats("variance") or [0.1]
    if len(variance) not in (1, 4) or min(variance) <= 0:
        raise Unsupported(f"it has {len(variance)} variances, expected 1 or 4")
    spread = np.broadcast_to(np.array(variance), corners.shape)
    result = np.stack([corners.ravel(), spread.ravel()])[None]
    return [Tensor(c.constant("boxes", result), result.shape)]


def _detection_output(c: Call) -> list[Tensor]:
    """[1, 1, detections, 7]: image, label, score, left, top, right, bottom; by image and label, the best first.

    As Caffe does it: of each class the `top_k` best above the threshold, those that overlap better ones removed, of
    all that are left in an image the `keep_top_k` best. Where no image has any, a row of -1 an image.
    """
    if len(c.inputs) != 3:
        raise Unsupported(f"it has {len(c.inputs)} inputs, expected 3")
    locations, confidences, priors = c.inputs
    classes, background = c.p.int("num_classes", 0), c.p.int("background_label_id", 0)
    c.p.ignore("save_output_param", "visualize", "visualize_threshold", "save_file")
    count = priors.known(-1)[0] // 4
    shared = c.p.bool("share_location", True)
    sets = 1 if shared else classes
    kept = [label for label in range(classes) if label != background]
    if locations.known(-1)[0] != count * 4 * sets or confidences.known(-1)[0] != count * classes or not kept:
        raise Unsupported("its inputs do not have as many boxes as there are priors and classes")
    deltas = c.reshape(locations, (locations.shape[0], count, sets, 4), "locations")
    corners = _decode(c, deltas, priors, count)
    scores = c.reshape(confidences, (confidences.shape[0], count, classes), "confidences").value
    # [N, count, classes] to [N, kept, count]
    scores = c.node("Gather", [scores, c.constant("labels", kept, np.int64)], "of_labels", axis=2)
    scores = c.node("Transpose", [scores], "by_label", perm=[0, 2, 1])
    boxes = c.node("Transpose", [corners], "boxes_by_set", perm=[0, 2, 1, 3])
    if not shared:
        boxes = c.node("Gather", [boxes, c.constant("labels", kept, np.int64)], "boxes_of_labels", axis=1)
    return [_select(c, boxes, scores, kept, count, shared)]


def _decode(c: Call, deltas: Tensor, priors: Tensor, count: int) -> ir.Value:
    """Corners of all boxes, [N, count, sets, 4]."""
    code = c.p.choice("code_type", ("", "CORNER", "CENTER_SIZE", "CORNER_SIZE"), "CORNER")
    if not c.p.bool("normalized_bbox", True):
        raise Unsupported("its boxes are in pixels (normalized_bbox: false)")
    both = c.reshape(Tensor(priors.value, (1, 2, count * 4)), (2, count, 1, 4), "priors").value
    prior, variance = (
        c.node("Gather", [both, c.constant(f"{what}_row", i, np.int64)], what, axis=0)
        for i, what in enumerate(("prior", "variance"))
    )
    value = deltas.value
    if not c.p.bool("variance_encoded_in_target", False):
        value = c.node("Mul", [value, variance], "deltas")

    def halves(whole: ir.Value, what: str) -> list[ir.Value]:
        return c.nodes("Split", [whole, c.constant("halves", [2, 2], np.int64)], 2, what, axis=-1)

    low, high = halves(prior, "prior_parts")
    if code == "CORNER":
        corners = c.node("Add", [prior, value], "corners")
    else:
        size = c.node("Sub", [high, low], "prior_size")
        if code == "CORNER_SIZE":
            moved = c.node("Mul", [value, c.node("Concat", [size, size], "sizes", axis=-1)], "moved")
            corners = c.node("Add", [prior, moved], "corners")
        else:
            shift, growth = halves(value, "delta_parts")
            centre = c.node("Mul", [c.node("Add", [low, high], "prior_sum"), c.constant("half", 0.5)], "prior_centre")
            centre = c.node("Add", [c.node("Mul", [shift, size], "shift"), centre], "centre")
            half = c.node("Mul", [c.node("Exp", [growth], "growth"), size], "size")
            half = c.node("Mul", [half, c.constant("half", 0.5)], "half_size")
            ends = [c.node("Sub", [centre, half], "low"), c.node("Add", [centre, half], "high")]
            corners = c.node("Concat", ends, "corners", axis=-1)
    if c.p.bool("clip", False):
        corners = c.node("Clip", [corners, c.constant("zero", 0), c.constant("one", 1)], "clipped")
    return corners


def _select(c: Call, boxes: ir.Value, scores: ir.Value, kept: list[int], count: int, shared: bool) -> Tensor:
    """The rows. `boxes` are [N, 1 or labels, count, 4], `scores` [N, labels, count] of the labels `kept`."""
    labels = len(kept)
    nms = c.p.message("nms_param")
    top, overlap = nms.int("top_k", -1), nms.float("nms_threshold", 0.3)
    if nms.float("eta", 1.0) != 1 or overlap <= 0:
        raise Unsupported("its overlap threshold is not positive or changes as it goes (eta)")
    floor = c.p.float("confidence_threshold", -3.4e38)
    number = count if top < 0 else min(top, count)
    keep = c.p.int("keep_top_k", -1)
    keep = labels * number if keep < 0 else min(keep, labels * number)
    if not keep > 0 or not number > 0:
        raise Unsupported("it keeps nothing")
    # Each class of each image is a batch of its own, of its best boxes.
    best, index = c.nodes("TopK", [scores, c.constant("top_k", [number], np.int64)], 2, "best", axis=2)
    place = c.node("Unsqueeze", [index, c.constant("last", [3], np.int64)], "place")
    place = c.node("Expand", [place, c.constant("four", [1, 1, 1, 4], np.int64)], "places")
    if shared:
        boxes = c.node("Expand", [boxes, c.constant("all_labels", [1, labels, 1, 1], np.int64)], "boxes_everywhere")
    chosen = c.node("GatherElements", [boxes, place], "best_boxes", axis=2)
    flat_boxes = c.node("Reshape", [chosen, c.constant("flat_boxes_shape", [-1, number, 4], np.int64)], "flat_boxes")
    flat_scores = c.node("Reshape", [best, c.constant("flat_scores_shape", [-1, 1, number], np.int64)], "flat_scores")
    picked = c.node(
        "NonMaxSuppression",
        [flat_boxes, flat_scores, c.constant("most", [number], np.int64), c.constant("overlap", [overlap]),
         c.constant("floor", [floor])], "picked",
    )  # fmt: skip
    # The scores of those picked stand in a row an image, all others at -inf: its best are the image's detections.
    whole = c.node("Shape", [flat_scores], "flat_scores_size")
    blank = c.node("Expand", [c.constant("none", -np.inf), whole], "blank")
    values = c.node("GatherND", [flat_scores, picked], "picked_scores")
    board = c.node("ScatterND", [blank, picked, values], "board")
    board = c.node("Reshape", [board, c.constant("board_shape", [-1, labels * number], np.int64)], "board_by_image")
    score, slot = c.nodes("TopK", [board, c.constant("keep_top_k", [keep], np.int64)], 2, "kept", axis=1)
    # In the order of slots they are by label, the best first.
    real = c.node("Greater", [score, c.constant("none", -np.inf)], "is_real")
    slot = c.node("Where", [real, slot, c.constant("beyond", labels * number, np.int64)], "slots")
    (slot, _) = c.nodes("TopK", [slot, c.constant("keep_top_k", [keep], np.int64)], 2, "ordered", axis=1, largest=0)
    real = c.node("Less", [slot, c.constant("beyond", labels * number, np.int64)], "is_kept")
    at = c.node("Transpose", [c.node("NonZero", [real], "kept_places")], "kept_at", perm=[1, 0])  # image, column
    return _rows(c, at, slot, board, chosen, kept, number)


def _rows(
    c: Call, at: ir.Value, slot: ir.Value, board: ir.Value, boxes: ir.Value, kept: list[int], number: int
) -> Tensor:
    column = c.constant("column", [-1, 1], np.int64)
    image = c.node("Slice", [at, *(c.constant(f"first_{k}", [v], np.int64) for k, v in enumerate((0, 1, 1)))], "image")
    slots = c.node("Reshape", [c.node("GatherND", [slot, at], "slot_of"), column], "slot_column")
    where = c.node("Concat", [image, slots], "where", axis=1)
    score = c.node("Reshape", [c.node("GatherND", [board, where], "score_of"), column], "score")
    by_slot = c.node("Reshape", [boxes, c.constant("by_slot", [-1, len(kept) * number, 4], np.int64)], "boxes_by_slot")
    corners = c.node("GatherND", [by_slot, where], "corners_of")
    names = c.constant("label_of_slot", np.repeat(kept, number))
    label = c.node("Gather", [names, slots], "label")
    parts = [c.node("Cast", [image], "image_number", to=_FLOAT), label, score, corners]
    found = c.node("Concat", parts, "found", axis=1)
    # Where nothing was found at all, a row an image: its number and -1.
    size = c.node("Shape", [at], "found_size", start=0, end=1)
    none = c.node("Equal", [size, c.constant("zero_rows", [0], np.int64)], "is_empty")
    images = c.node("Shape", [slot], "images", start=0, end=1)
    lonely = c.node("NonZero", [c.node("Expand", [none, images], "is_lonely")], "lonely")
    lonely = c.node("Cast", [c.node("Transpose", [lonely], "lonely_images", perm=[1, 0])], "lonely_numbers", to=_FLOAT)
    pads = c.constant("rest", [0, 0, 0, 6], np.int64)
    fallback = c.node("Pad", [lonely, pads, c.constant("minus_one", -1)], "fallback")
    rows = c.node("Concat", [found, fallback], "rows", axis=0)
    value = c.node("Reshape", [rows, c.constant("shape", [1, 1, -1, 7], np.int64)])
    return c.tensor(value, (1, 1, None, 7))


RULES: dict[str, tuple[str, Rule]] = {
    "DetectionOutput": ("detection_output_param", _detection_output),
    "PriorBox": ("prior_box_param", _prior_box),
}
"""By type, as in `layers`."""
