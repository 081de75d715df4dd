"""Room detect: by definition the two rooms, one after the other."""

from reference.nms import nms
from reference.upsample import upsample


def detect(difference, mask=None, **options):
    return nms(upsample(difference), mask, **options)
