# The compiled core. Its functions check their arguments when called; ops.py gives them types.
from typing import Any

def __getattr__(name: str) -> Any: ...
