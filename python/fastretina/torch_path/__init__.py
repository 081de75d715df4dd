"""The rooms in pure PyTorch, one module each: the fallback, and a second opinion on the compiled core."""
