"""The guides that come with the package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

GUIDES = Path(__file__).parents[1] / "guides"


def guide(name: Literal["train", "deploy", "replay", "ask", "extend"]) -> int:
    """Show a guide: what to type, in a new user's order, and what is seen after each command.

    Examples:
        embodied-mem guide train             # a policy that remembers, and the same without memory
        embodied-mem guide extend            # your own sensor, detector, environment, bank
        embodied-mem guide ask > ask.md      # as Markdown

    Args:
        name: of the guide.
    """
    text = (GUIDES / f"{name}.md").read_text(encoding="utf-8")
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(text))
    else:
        print(text, end="")
    return 0
