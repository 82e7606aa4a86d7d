"""Plain English out of marked-up text: the sentences of reStructuredText, and sentences of running text."""

import re
from pathlib import Path

from docutils import nodes
from docutils.core import publish_doctree
from docutils.parsers.rst import Directive, directives

from kglm.errors import InputError

# Sphinx' roles, unknown to docutils: :func:`text <target>` and :ref:`target`.
_ROLE = re.compile(r":[a-z:]+:`(?:([^`<]+?)\s*<[^`>]*>|([^`]*))`")
_ABBREVIATION = re.compile(r"\b([A-Z]|e\.g|i\.e|al|etc|vs|cf|Dr|Mr|Mrs|Prof|St|Inc|Ltd|Vol|No|pp|Tech|Rep)\.$")
_BOUNDARY = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z])")
_REFERENCES = re.compile(r"(references?|citations?|original owners|examples?)\b", re.IGNORECASE)
_ENTERED = (nodes.section, nodes.container, nodes.block_quote, nodes.bullet_list, nodes.enumerated_list)
_ENTERED += (nodes.list_item, nodes.definition_list, nodes.definition_list_item, nodes.definition)
_QUIET = {"report_level": 5, "halt_level": 5, "file_insertion_enabled": False, "raw_enabled": False}


class _Container(Directive):
    """sphinx-design's `dropdown`: its content counts, unless its title announces references."""

    has_content, optional_arguments, final_argument_whitespace = True, 1, True

    def run(self) -> list[nodes.Node]:
        if self.arguments and _REFERENCES.match(self.arguments[0]):
            return []
        container = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, container)
        return [container]


directives.register_directive("dropdown", _Container)


def rst_paragraphs(path: Path) -> list[str]:
    """The paragraphs of running text in a .rst file: no headings, tables, code, fields or references."""
    try:
        source = Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        line = Path(path).read_bytes().count(b"\n", 0, error.start) + 1
        raise InputError("bytes that are not UTF-8", f"{path}:{line}", "convert the file to UTF-8") from None
    document = publish_doctree(_ROLE.sub(lambda role: role[1] or role[2], source), settings_overrides=_QUIET)
    for reference in [
        *document.findall(nodes.footnote_reference),
        *document.findall(nodes.citation_reference),
    ]:
        reference.parent.remove(reference)
    found: list[str] = []
    _collect(document, found)
    return found


def _collect(node: nodes.Element, found: list[str]) -> None:
    for child in node.children:
        if isinstance(child, _ENTERED):
            _collect(child, found)
        elif isinstance(child, nodes.rubric) and _REFERENCES.match(child.astext()):
            return  # what follows to the section's end are references
        elif isinstance(child, nodes.paragraph):
            text = " ".join(child.astext().split())
            if _REFERENCES.match(text) and len(text) < 40:
                return
            found.append(re.sub(r"\s+([.,;:)])", r"\1", text))


def sentences(text: str) -> list[str]:
    """The sentences of running text. A full stop after an initial or a common abbreviation ends none."""
    found, start = [], 0
    for boundary in _BOUNDARY.finditer(text):
        sentence = text[start : boundary.end()].strip()
        if not _ABBREVIATION.search(sentence.rstrip("\"')]")):
            found.append(sentence)
            start = boundary.end()
    return [*found, text[start:].strip()] if text[start:].strip() else found


def is_prose(sentence: str) -> bool:
    """Whether it is plain English: a capital first, a stop last, words in between, no address."""
    letters = sum(character.isalpha() or character.isspace() for character in sentence)
    whole = sentence[:1].isupper() and sentence.rstrip("\"')")[-1:] in {".", "!", "?"}
    return whole and letters >= 0.8 * len(sentence) and not re.search(r"https?:|www\.|[`|{}<>=_\\]", sentence)
