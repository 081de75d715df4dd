"""Room nms, written to be read: every pixel against every pixel of its window."""

import numpy as np


def better(score_a, index_a, score_b, index_b) -> bool:
    return score_a > score_b or (score_a == score_b and index_a < index_b)


def nms(confidence, mask=None, *, radius=4, max_keypoints, threshold):
    height, width = confidence.shape
    found = []
    for y in range(height):
        for x in range(width):
            score = confidence[y, x]
            if not score > threshold or (mask is not None and mask[y, x] == 0):
                continue
            rivals = [
                (v, u)
                for v in range(max(y - radius, 0), min(y + radius + 1, height))
                for u in range(max(x - radius, 0), min(x + radius + 1, width))
                if (v, u) != (y, x)
            ]
            if not any(better(confidence[v, u], v * width + u, score, y * width + x) for v, u in rivals):
                found.append((-score, y * width + x))
    best = sorted(found)[:max_keypoints]
    xy = np.array([(index % width, index // width) for _, index in best], np.float32).reshape(-1, 2)
    score = np.array([-s for s, _ in best], np.float32)
    return xy, score
