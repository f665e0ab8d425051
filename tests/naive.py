"""Slow oracles, loops allowed: each is named after what it checks."""

import math

import numpy as np


def statistics(errors, radii_mm=(2.0, 2.5, 3.0, 4.0, 10.0)):
    """Pooled statistics of `kerasland.tables.summarize`, a point at a time."""
    values = [e for e in errors["error_mm"] if math.isfinite(e)]
    ordered, n = sorted(values), len(values)
    mean = sum(values) / n
    by_image = {}
    seeds = errors["seed"] if "seed" in errors else [0] * len(errors)
    for image, seed, e in zip(errors["image_id"], seeds, errors["error_mm"], strict=True):
        if math.isfinite(e):
            by_image.setdefault((image, seed), []).append(e)
    ipe = [sum(v) / len(v) for v in by_image.values()]
    ipe_mean = sum(ipe) / len(ipe)
    return {
        "error_mm_median": (ordered[(n - 1) // 2] + ordered[n // 2]) / 2,
        "error_mm_mean": mean,
        "error_mm_sd": math.sqrt(sum((e - mean) ** 2 for e in values) / n),
        "ipe_mm_mean": ipe_mean,
        "ipe_mm_sd": math.sqrt(sum((e - ipe_mean) ** 2 for e in ipe) / len(ipe)),
        "outliers": {r: sum(e > r for e in values) for r in radii_mm},
        "points": n,
    }


def bootstrap_over_images(errors, samples, seed):
    """95 % interval of the pooled mean error in mm; whole images are drawn and concatenated."""
    images = sorted(set(errors["image_id"]))
    points = {image: [] for image in images}
    for image, e in zip(errors["image_id"], errors["error_mm"], strict=True):
        if math.isfinite(e):
            points[image].append(e)
    images = [image for image in images if points[image]]
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(samples):
        drawn = []
        for i in rng.integers(0, len(images), len(images)):
            drawn += points[images[i]]
        means.append(sum(drawn) / len(drawn))
    return tuple(np.percentile(means, (2.5, 97.5)))


def bootstrap_over_points(errors, samples, seed):
    """What must not be done: the same with single points, as if they were independent."""
    values = np.array([e for e in errors["error_mm"] if math.isfinite(e)])
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(samples)]
    return tuple(np.percentile(means, (2.5, 97.5)))


def signed_rank_p(differences):
    """Exact two-sided Wilcoxon p by every assignment of signs; no zeros, no ties."""
    size = np.abs(differences)
    rank = [int(sum(size <= d)) for d in size]
    observed = sum(r for r, d in zip(rank, differences, strict=True) if d > 0)
    n, total = len(rank), sum(rank)
    extreme = 0
    for signs in range(2**n):
        positive = sum(r for i, r in enumerate(rank) if signs >> i & 1)
        extreme += abs(positive - total / 2) >= abs(observed - total / 2)
    return extreme / 2**n


def markdown_table(text):
    """The rows of the first GitHub table in a text, as dictionaries by header."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [
        [cell.strip().replace("\\|", "|") for cell in line.replace("\\|", "\0").split("|")[1:-1]]
        for line in lines
    ]
    rows = [[cell.replace("\0", "|") for cell in row] for row in rows]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def resample_weights(source_size, target_size, scale, shift):
    """Weights of `resample_matrix`: a triangle about each target pixel's centre, one at a time."""
    reach = max(1.0, 1.0 / scale)
    matrix = np.zeros((target_size, source_size))
    for i in range(target_size):
        centre = (i + 0.5 - shift) / scale - 0.5
        if not -0.5 <= centre <= source_size - 0.5:
            continue
        for j in range(source_size):
            matrix[i, j] = max(0.0, 1.0 - abs(j - centre) / reach)
        matrix[i] /= sum(matrix[i])
    return matrix


def softmax_map(logits, beta=1.0):
    """Softmax over the cells of one heatmap (h, w)."""
    top = max(max(row) for row in logits)
    p = np.array([[math.exp(beta * (value - top)) for value in row] for row in logits])
    return p / p.sum()


def features_at(x, y, maps, angle="unit"):
    """The spatial feature vector at normalised coordinates."""
    radius = math.hypot(x, y)
    if angle == "raw":
        polar = [radius, math.atan2(y, x) / math.pi]
    else:
        polar = [radius, x / radius, y / radius] if radius > 0 else [0.0, 0.0, 0.0]
    return {"cartesian": [x, y], "polar": polar, "both": [x, y, *polar]}[maps]


def features_of_point(point, image_shape, maps, angle="unit"):
    """The spatial feature vector of a point in pixels: one scale for both axes."""
    half = max(image_shape) / 2
    x = (point[0] - (image_shape[1] - 1) / 2) / half
    y = (point[1] - (image_shape[0] - 1) / 2) / half
    return np.array(features_at(x, y, maps, angle))


def embedding(logits, maps, beta=1.0, angle="unit"):
    """The spatial feature vector (C,) of one heatmap (h, w), a cell at a time."""
    p = softmax_map(logits, beta)
    total = 0.0
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            total = total + p[i, j] * features_of_point((j, i), p.shape, maps, angle)
    return total


def correlation(vectors, kind):
    """M (K, K) of vectors (K, C), a pair at a time."""
    k = len(vectors)
    matrix = np.zeros((k, k))
    for a in range(k):
        for b in range(k):
            u, v = np.array(vectors[a], float), np.array(vectors[b], float)
            if kind == "pearson":
                u, v = u - u.mean(), v - v.mean()
            if kind == "distance":
                matrix[a, b] = math.sqrt(sum((u - v) ** 2) + 1e-6)
            elif kind == "inner":
                matrix[a, b] = sum(u * v)
            else:
                matrix[a, b] = sum(u * v) / math.sqrt((sum(u * u) + 1e-6) * (sum(v * v) + 1e-6))
    return matrix


def is_annotated(point, image_shape):
    """Whether a point is there and within the area of the image's pixels."""
    x, y = point
    return -0.5 <= x <= image_shape[1] - 0.5 and -0.5 <= y <= image_shape[0] - 0.5


def gaussian_map(point, image_shape, grid_shape, sigma_px):
    """The dense target (h, w) of one landmark, of height 1; zeros without annotation."""
    (h, w), target = grid_shape, np.zeros(grid_shape)
    if not is_annotated(point, image_shape):
        return target
    for i in range(h):
        for j in range(w):
            x = (j + 0.5) * image_shape[1] / w - 0.5
            y = (i + 0.5) * image_shape[0] / h - 0.5
            square = (x - point[0]) ** 2 + (y - point[1]) ** 2
            target[i, j] = math.exp(-square / (2 * sigma_px**2))
    return target


def heatmap_loss(logits, points, image_shape, sigma_px, kind):
    """`HeatmapLoss` of one sample: logits (h, w, K) and points (K, 2), with dense targets."""
    values = []
    for k, point in enumerate(points):
        if not is_annotated(point, image_shape):
            continue
        target = gaussian_map(point, image_shape, logits.shape[:2], sigma_px)
        if kind == "squared_error":
            values.append(((logits[..., k] - target) ** 2).sum())
        else:
            q = target / target.sum()
            values.append(-(q * np.log(softmax_map(logits[..., k]))).sum())
    return sum(values) / len(values) if values else 0.0


def configuration_loss(vectors, points, image_shape, maps, kind, difference, angle="unit"):
    """`SpatialConfigurationLoss` of one sample: vectors (K, C), points (K, 2); pair by pair."""
    kept = [k for k, point in enumerate(points) if is_annotated(point, image_shape)]
    if len(kept) < 2:
        return 0.0
    wanted = [features_of_point(points[k], image_shape, maps, angle) for k in kept]
    gap = correlation([vectors[k] for k in kept], kind) - correlation(wanted, kind)
    power = {"absolute": 1, "squared": 2}[difference]
    pairs = [(a, b) for a in range(len(kept)) for b in range(len(kept)) if a != b]
    return sum(abs(gap[a, b]) ** power for a, b in pairs) / len(pairs)


def peak_window(logits, image_shape, radius_cells, beta=1.0):
    """Attention, x and y of each cell of one heatmap (h, w) about the highest; pixels."""
    p, (h, w) = softmax_map(logits, beta), logits.shape
    peak_i, peak_j = np.unravel_index(np.argmax(p), p.shape)
    for i in range(max(0, peak_i - radius_cells), min(h, peak_i + radius_cells + 1)):
        for j in range(max(0, peak_j - radius_cells), min(w, peak_j + radius_cells + 1)):
            x, y = (j + 0.5) * image_shape[1] / w - 0.5, (i + 0.5) * image_shape[0] / h - 0.5
            yield p[i, j], x, y


def decoded(*heatmap):
    """(x, y) and confidence, arguments as of `peak_window`: soft-argmax about the highest cell."""
    mass = x = y = 0.0
    for weight, at_x, at_y in peak_window(*heatmap):
        mass += weight
        x += weight * at_x
        y += weight * at_y
    return (x / mass, y / mass), mass


def scatter(point, *heatmap):
    """xx, xy and yy of the covariance about a point, other arguments as of `peak_window`."""
    mass, sums = 0.0, np.zeros(3)
    for weight, x, y in peak_window(*heatmap):
        x, y = x - point[0], y - point[1]
        mass += weight
        sums += weight * np.array([x * x, x * y, y * y])
    return sums / mass
