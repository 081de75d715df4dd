"""Training of the networks; importing this package does not import torch."""
