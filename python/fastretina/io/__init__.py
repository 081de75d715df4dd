"""Files in and out: images, point lists, output folders. Whatever is wrong with a file is an InvalidInput naming it."""

from fastretina.io.images import encode_image, read_image, write_image
from fastretina.io.output import OutputFolder, write_bytes
from fastretina.io.points import PointTable, read_points

__all__ = ["OutputFolder", "PointTable", "encode_image", "read_image", "read_points", "write_bytes", "write_image"]
