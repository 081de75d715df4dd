"""Network definitions (PyTorch), one file each; importing this package does not import torch."""
