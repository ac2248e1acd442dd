"""Docstrings name objects as ``:class:`~package.Name```, and their first sentence may take two lines. The
site is Markdown: it shows the name alone, and the first sentence as a whole in its lists.
"""

import re

import griffe

ROLE = re.compile(r":(?:class|meth|func|mod|attr|data):`~?([^`]+)`")


class Roles(griffe.Extension):
    """Put code marks in place of roles, a colon in place of the two that begin a block, and the first
    paragraph on one line.
    """

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Griffe calls this when an object has been read."""
        if obj.docstring:
            text = ROLE.sub(lambda role: f"`{role[1].rpartition('.')[2]}`", obj.docstring.value)
            first, gap, rest = re.sub(r"::$", ":", text, flags=re.MULTILINE).partition("\n\n")
            obj.docstring.value = " ".join(first.split()) + gap + rest
