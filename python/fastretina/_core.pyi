# The compiled core. Its functions check their arguments when called; fastretina.ops gives them types.
from typing import Any

def __getattr__(name: str) -> Any: ...
