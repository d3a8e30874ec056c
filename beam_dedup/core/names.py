r"""Shows names in messages: on one line, and so that no name can control a terminal.

Names come from strangers. A terminal takes control characters in them for commands: it would set its title,
clear the screen, or show another name. So everything that cannot be printed is escaped.
"""

import json

from beam_dedup.core.model import json_text

_ARROW = " -> "  # between two names in a preview


def shown(name: str) -> str:
    r"""Returns a file name as messages show it: as it is, or as JSON if it cannot be printed or could be misread.

    >>> print(shown("a b.jpg"), shown("a\x1b]0;title\x07.jpg"))
    a b.jpg "a\u001b]0;title\u0007.jpg"
    """
    return name if name.isprintable() and _ARROW not in name else without_controls(json_text(name))


def without_controls(text: str) -> str:
    r"""Returns a message with line breaks as they are, and all else that cannot be printed escaped as in JSON.

    >>> print(without_controls("a\x1b[2J\nb\x9b\u202e"))
    a\u001b[2J
    b\u009b\u202e
    """
    return "".join(
        letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text
    )
