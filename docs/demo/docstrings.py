"""How do docstrings become pages? An `Example:` of ours is what mkdocstrings calls `Examples:`."""

from __future__ import annotations

from typing import Any

import griffe


class Examples(griffe.Extension):
    """Shows doctests as code."""

    # Any: what griffe passes besides.
    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of every object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
