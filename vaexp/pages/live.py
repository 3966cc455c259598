"""The live part of a page: a template whose script runs models in the browser."""

import base64
import hashlib
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Live:
    """Models, test images and a script. A page holds one of them at most."""

    template: str
    """The template of its controls and pictures."""
    script: Markup
    data: Markup
    """JSON that is safe within HTML."""
    runs: int
    images: int


def policy(live: Live | None) -> str:
    """What a browser may do for a page: fetch nothing, and run no script but that of ``live``."""
    parts = ["default-src 'none'", "img-src data: blob:" if live else "img-src data:"]
    if live:
        digest = hashlib.sha256(live.script.encode("utf-8")).digest()
        parts.append(f"script-src 'sha256-{base64.b64encode(digest).decode('ascii')}'")
    return "; ".join([*parts, "style-src 'unsafe-inline'", "base-uri 'none'", "form-action 'none'"])
