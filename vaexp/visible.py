"""Text that came from a file or a name, made safe to print."""


def visible(text: str) -> str:
    """The text with each character that does not print, such as an escape, shown as its code.

    A newline is shown as ``\\n`` too, so that what one name holds is never two lines.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which stay apart."""
    return "\n".join(map(visible, text.split("\n")))
