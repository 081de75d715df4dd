"""Register two retinal images of any modality, fast, and know whether to trust the answer."""

__version__ = "0.1.0"
