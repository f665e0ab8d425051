"""Where a landmark should be, given all the others: those that these contradict are moved."""

from __future__ import annotations

from keras import ops

from kerasland import shape_algebra as algebra

MORE_PASSES = 30  # than points may move: what the others say settles slowly
SURE = 1.1  # a bit more than the highest confidence, which else would never be suspected
NEAR = 0.5  # of the least distance of two landmarks in training: nearer ones are on one spot


def most_moved(landmarks: int) -> int:
    """How many of so many landmarks the others may correct: a sixth, 2 of 6 to 17, 1 of fewer."""
    return max(1 if landmarks < 6 else 2, landmarks // 6)


def corrected(
    points, confidence, mean, precision, apart, doubtful: float, far: float, absurd: float
):
    """Points, of which those that all others contradict lie where the others say.

    A point contradicts the others if it is more than a limit of standard deviations from its
    expectation given them, under the Gaussian: `far` if its confidence is low, `absurd` whatever
    its confidence. With the precision in blocks of 2 x 2 and x the aligned shape less the mean, the
    difference of point k from that expectation is inv(P_kk) (P x)_k.

    Each pass takes out the point that contradicts most, by its distance times what its confidence
    lacks to `SURE`, and asks the others again; a point that was taken out and does not contradict
    them any more comes back. So a wrong point does not accuse its neighbour for long. Where points
    still contradict in the last pass, or more than `most_moved` would move, they are no such shape,
    and none is moved. What becomes of an image does not depend on others in its batch.

    Where a part can't be seen, its heatmaps may have a sure peak on the next such part: a finger
    that is cut off on its neighbour. But two points can't be on one spot. Where two were found so,
    or still are when the others agree, the one that is further from where those points say that are
    on no such spot is the wrong one. If these are not the points that were moved, they are not
    trusted any more, as if their confidence were 0, and all is asked once more.

    Args:
        points: (B, K, 2), pixels.
        confidence: (B, K), within 0..1; also the weights when the shape is laid onto the mean.
        mean, precision, apart: of `Shapes`.
        doubtful: a confidence, below which `far` is the limit.
        far, absurd: in standard deviations.

    Returns:
        Points (B, K, 2) and their confidence (B, K), which is 0 for those that were moved, since
        their heatmaps say otherwise, for those that are still on one spot with another, and for all
        points of what is no such shape.
    """
    landmarks = points.shape[1]
    precision = ops.convert_to_tensor(precision)  # read once, so that exports hold it once
    xx, xy, yy = own = algebra.own_blocks(precision, landmarks)
    # before the points come in: alone, its determinant is beyond what float16 exports hold
    conditional = algebra.inverse(own)
    most = most_moved(landmarks)

    def deviations(gap):
        """Standard deviations of each point given the others, squared."""
        x, y = gap[..., 0], gap[..., 1]
        return xx * x * x + 2.0 * xy * x * y + yy * y * y

    def laid(found, trust):
        """Shapes, whose points count by their trust, less the mean on which they are laid, and the
        similarities (c, s) that do it."""
        weight = trust / (ops.sum(trust, axis=1, keepdims=True) + algebra.EPSILON)
        weight = weight[..., None]
        target = mean - ops.sum(weight * mean, axis=1, keepdims=True)
        size = ops.sum(weight * target**2, axis=(1, 2))
        centre = ops.sum(weight * found, axis=1, keepdims=True)
        shape = found - centre
        # inverse of that which lays the mean onto the shape, on which a point far off pulls less
        c = ops.sum(weight * shape * target, axis=(1, 2))
        s = ops.sum(weight[..., 0] * algebra.cross(shape, target), axis=1)
        inverse = size / (c * c + s * s + algebra.EPSILON)
        c, s = (c * inverse)[:, None], (s * inverse)[:, None]
        return algebra.turned(shape, c, s) - target, c, s

    def asked(found, trust):
        """Where the others expect each point, and its `deviations` from there."""
        offset, c, s = laid(found, trust)
        residual = algebra.times(conditional, algebra.multiplied(precision, offset))
        back = algebra.turned(residual, c, -s) / (c * c + s * s + algebra.EPSILON)[..., None]
        expected = found - back
        return expected, deviations(algebra.turned(points - expected, c, s))

    def out_of_place(doubted):
        """The `deviations` of doubted points from where those that are not doubted expect them."""
        among = ops.cast(doubted, "float32")[..., None]
        offset, *_ = laid(points, ops.where(doubted, 0.0, confidence))
        rest = among * algebra.multiplied(precision, offset)
        gap = algebra.solved(
            lambda x: among * algebra.multiplied(precision, x),
            lambda x: algebra.times(conditional, x),
            ops.zeros_like(rest),
            rest,
            ops.any(doubted),
        )
        return deviations(gap)

    def settled(trust, live):
        """Points, which of them were moved, and whether the others then agree, of images that are
        `live`, (B, 1); of others nothing is moved."""
        # of two numbers Keras would make its floatx
        limit = ops.cast(ops.where(trust < doubtful, far**2, absurd**2), "float32")

        def again(found, moved, contradicts):
            live = ops.any(moved | contradicts, axis=1, keepdims=True)
            expected, distance = asked(found, ops.where(moved, confidence, trust))
            beyond = (distance > limit) & live
            moved = moved & beyond
            contradicts = beyond & ~moved
            suspicion = ops.where(contradicts, distance * (SURE - trust) ** 2, 0.0)
            worst = contradicts & (suspicion >= ops.max(suspicion, axis=1, keepdims=True))
            moved = moved | worst
            found = ops.where(moved[..., None], expected, points)
            return found, moved, contradicts

        def unsettled(_, moved, contradicts):
            return ops.any(moved | contradicts)  # of most batches nothing from the first pass on

        nothing = ops.zeros_like(confidence) > 1.0
        found, moved, contradicts = ops.while_loop(
            unsettled,
            again,
            (points, nothing, ~nothing & live),
            maximum_iterations=most + MORE_PASSES,
        )
        amount = ops.sum(ops.cast(moved, "float32"), axis=1, keepdims=True)
        agreed = ~ops.any(contradicts, axis=1, keepdims=True) & (amount <= most)
        return ops.where((moved & agreed)[..., None], found, points), moved, agreed

    first = settled(confidence, ops.ones_like(confidence[:, :1]) > 0)
    found, moved, agreed = first
    spots = _on_one_spot(points, mean, apart) | _on_one_spot(found, mean, apart)
    doubted = ops.any(spots, axis=-1) & agreed
    distance = out_of_place(doubted)
    further = distance[:, :, None] >= distance[:, None]
    misplaced = ops.any(spots & further, axis=-1) & doubted
    anew = ops.any(doubted & (misplaced != moved), axis=1, keepdims=True)
    second = settled(ops.where(misplaced, 0.0, confidence), anew)
    found = ops.where(anew[..., None], second[0], first[0])
    moved, agreed = (ops.where(anew, b, a) for a, b in zip(first[1:], second[1:], strict=True))
    unknown = moved | ~agreed | ops.any(_on_one_spot(found, mean, apart), axis=-1)
    return found, ops.where(unknown, 0.0, confidence)


def _on_one_spot(points, mean, apart):
    """Which two of the points (B, K, 2) are much nearer than they ever were: (B, K, K)."""
    centred = points - ops.mean(points, axis=1, keepdims=True)
    c, s = algebra.similarity(centred, mean - ops.mean(mean, axis=0))
    x, y = (centred[:, :, None, axis] - centred[:, None, :, axis] for axis in (0, 1))
    squared = (x * x + y * y) * (c * c + s * s)[..., None]
    return squared < (NEAR * ops.convert_to_tensor(apart)) ** 2
