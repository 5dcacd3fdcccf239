"""What the type check knows of a module that is compiled: nothing."""

from typing import Any

def __getattr__(name: str) -> Any: ...
