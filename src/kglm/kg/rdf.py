"""N-Triples, N-Quads and Turtle through rdflib: statements between nodes are triples, labels and comments texts."""

from collections.abc import Iterable
from pathlib import Path

from rdflib import Graph, Literal, URIRef
from rdflib.exceptions import ParserError
from rdflib.namespace import DC, DCTERMS, RDFS, SDO, SKOS
from rdflib.plugins.parsers.notation3 import BadSyntax
from rdflib.plugins.parsers.nquads import NQuadsParser
from rdflib.plugins.parsers.ntriples import W3CNTriplesParser
from rdflib.term import BNode, Node

from kglm.errors import InputError
from kglm.kg.characters import whole
from kglm.kg.parsers import read_lines

Row = tuple[int, tuple[str, str, str]]
Text = tuple[str, str, str]
_Statement = tuple[int, Node, Node, Node]
_TEXTS = {
    **dict.fromkeys((RDFS.label, SKOS.prefLabel, SDO.name, URIRef("http://schema.org/name")), "name"),
    **dict.fromkeys((RDFS.comment, SKOS.definition, DC.description, DCTERMS.description), "description"),
    **dict.fromkeys((SDO.description, URIRef("http://schema.org/description")), "description"),
}


def read_rdf(path: Path, format: str) -> tuple[list[Row], list[Text], int]:
    """(line, (head, relation, tail)) of statements between nodes; texts; the number of literals left out.

    N-Triples and N-Quads keep duplicates; the graphs of quads are not told apart. Turtle is a set, and its triples
    have line 0. Of a node's labels and comments those in English or without a language are taken; where it has none,
    those in the first other language by its tag. A blank node belongs to its file (RDF 1.1, section 3.4): its id is
    _:<file>/<label>, in Turtle _:<file>/b<number> in the order of the file.
    """
    read = {"ntriples": _ntriples, "nquads": _nquads, "turtle": _turtle}[format]
    rows, literals, left_out = [], [], 0
    for line, subject, predicate, object_ in read(path):
        if not isinstance(object_, Literal):
            rows.append((line, tuple(_id(node, path) for node in (subject, predicate, object_))))
        elif predicate in _TEXTS:
            text = (_id(subject, path), _TEXTS[predicate], whole(str(object_)))
            literals.append((_language(object_), text))
        else:
            left_out += 1
    texts = _in_one_language(literals)
    return rows, texts, left_out + len(literals) - len(texts)


def _language(literal: Literal) -> str:
    """A literal's language in small letters, without script and country; "" for English and for none."""
    language = (literal.language or "en").lower().split("-")[0]
    return "" if language == "en" else language


def _in_one_language(literals: list[tuple[str, Text]]) -> list[Text]:
    """Of each node's names, and of its descriptions, those in its first language."""
    first: dict[tuple[str, str], str] = {}
    for language, (id, kind, _) in literals:
        first[id, kind] = min(language, first.get((id, kind), language))
    return [text for language, text in literals if language == first[text[:2]]]


class _Sink:
    """Takes statements as rdflib's parsers hand them over: `triple` is N-Triples', the others are N-Quads'."""

    def __init__(self):
        self.found: list[tuple[Node, Node, Node]] = []
        self.default_context = self

    def triple(self, subject: Node, predicate: Node, object_: Node) -> None:
        self.found.append((subject, predicate, object_))

    def add(self, statement: tuple[Node, Node, Node]) -> None:
        self.found.append(statement)

    def get_context(self, _graph: Node) -> "_Sink":
        return self


def _ntriples(path: Path) -> Iterable[_Statement]:
    sink, labels = _Sink(), {}
    parser = W3CNTriplesParser(sink, bnode_context=labels)
    return _by_line(path, parser.parsestring, sink, labels, "not N-Triples; expected <head> <relation> <tail> .")


def _nquads(path: Path) -> Iterable[_Statement]:
    sink, labels = _Sink(), {}
    parser = NQuadsParser(sink, bnode_context=labels)

    def parse(line: str) -> None:
        parser.line = line
        parser.parseline()

    return _by_line(path, parse, sink, labels, "not N-Quads; expected <head> <relation> <tail> <graph> .")


def _by_line(path: Path, parse, sink: _Sink, labels: dict[str, BNode], complaint: str) -> Iterable[_Statement]:
    lines = []
    for number, line in enumerate(read_lines(path).to_pylist(), start=1):
        try:
            parse(line)
        except (ParserError, ValueError, OverflowError):  # the last two: an escape that stands for no character
            what, remedy = complaint.split("; ")
            raise InputError(what, f"{path}:{number}", remedy) from None
        lines += [number] * (len(sink.found) - len(lines))
    # rdflib gives blank nodes new random names; those of the file are stable
    names = {node: BNode(label) for label, node in labels.items()}
    return ((line, names.get(s, s), p, names.get(o, o)) for line, (s, p, o) in zip(lines, sink.found, strict=True))


class _Statements(Graph):
    """The distinct statements of a document in its order; a graph of rdflib's has none."""

    def __init__(self):
        super().__init__()
        self.found: dict[tuple[Node, Node, Node], None] = {}

    def add(self, triple: tuple[Node, Node, Node]) -> "_Statements":
        self.found[triple] = None
        return self


def _turtle(path: Path) -> Iterable[_Statement]:
    text = "\n".join(read_lines(path).to_pylist())
    graph = _Statements()
    try:
        graph.parse(data=text, format="turtle", publicID="file:///")
    except BadSyntax as error:
        raise InputError("not Turtle", f"{path}:{error.lines + 1}", "mend the syntax near this line") from None
    except MemoryError:
        raise
    except Exception as error:  # rdflib's parser has many more for what is no Turtle, Exception itself among them
        told = str(error).partition("\n")[0][:80] or type(error).__name__
        raise InputError(f"not Turtle ({told})", path, "mend its syntax") from None
    numbers: dict[Node, BNode] = {}
    for statement in graph.found:
        for node in statement:
            if isinstance(node, BNode):
                numbers.setdefault(node, BNode(f"b{len(numbers)}"))
    return ((0, *(numbers.get(node, node) for node in statement)) for statement in graph.found)


def _id(node: Node, path: Path) -> str:
    return f"_:{Path(path).name}/{node}" if isinstance(node, BNode) else whole(str(node))
