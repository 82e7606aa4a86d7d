"""N-Triples and Turtle through rdflib: statements between nodes are triples, labels and comments texts."""

from collections.abc import Iterable
from pathlib import Path

from rdflib import Graph, Literal, URIRef
from rdflib.compare import to_canonical_graph
from rdflib.namespace import DC, DCTERMS, RDFS, SDO, SKOS
from rdflib.plugins.parsers.notation3 import BadSyntax
from rdflib.plugins.parsers.ntriples import ParseError, W3CNTriplesParser
from rdflib.term import BNode, Node

from kglm.errors import InputError
from kglm.kg.parsers import read_lines

Row = tuple[int, tuple[str, str, str]]
_TEXTS = {
    **dict.fromkeys((RDFS.label, SKOS.prefLabel, SDO.name, URIRef("http://schema.org/name")), "name"),
    **dict.fromkeys((RDFS.comment, SKOS.definition, DC.description, DCTERMS.description), "description"),
    **dict.fromkeys((SDO.description, URIRef("http://schema.org/description")), "description"),
}


def read_rdf(path: Path, format: str) -> tuple[list[Row], list[tuple[str, str, str]], int]:
    """(line, (head, relation, tail)) of statements between nodes; texts; the number of literals left out.

    N-Triples keep order and duplicates. Turtle is a set: its triples come sorted, with line 0. Of a node's
    labels and comments those in English or without a language are taken.
    """
    statements = _ntriples(path) if format == "ntriples" else _turtle(path)
    rows, texts, left_out = [], [], 0
    for line, subject, predicate, object_ in statements:
        if not isinstance(object_, Literal):
            rows.append((line, (_id(subject), _id(predicate), _id(object_))))
        elif predicate in _TEXTS and (object_.language or "en").split("-")[0] == "en":
            texts.append((_id(subject), _TEXTS[predicate], str(object_)))
        else:
            left_out += 1
    return rows, texts, left_out


def _ntriples(path: Path) -> Iterable[tuple[int, Node, Node, Node]]:
    found: list[tuple[Node, Node, Node]] = []
    labels: dict[str, BNode] = {}
    parser = W3CNTriplesParser(_Sink(found), bnode_context=labels)
    lines = []
    for number, line in enumerate(read_lines(path).to_pylist(), start=1):
        try:
            parser.parsestring(line)
        except ParseError:
            raise InputError("not N-Triples", f"{path}:{number}", "expected <head> <relation> <tail> .") from None
        lines += [number] * (len(found) - len(lines))
    # rdflib gives blank nodes new random names; those of the file are stable
    names = {node: BNode(label) for label, node in labels.items()}
    return ((line, names.get(s, s), p, names.get(o, o)) for line, (s, p, o) in zip(lines, found, strict=True))


class _Sink:
    def __init__(self, found: list[tuple[Node, Node, Node]]):
        self._found = found

    def triple(self, subject: Node, predicate: Node, object_: Node) -> None:
        self._found.append((subject, predicate, object_))


def _turtle(path: Path) -> Iterable[tuple[int, Node, Node, Node]]:
    text = "\n".join(read_lines(path).to_pylist())
    try:
        graph = Graph().parse(data=text, format="turtle", publicID="file:///")
    except BadSyntax as error:
        raise InputError("not Turtle", f"{path}:{error.lines + 1}", "mend the syntax near this line") from None
    if any(isinstance(node, BNode) for triple in graph for node in triple):
        graph = to_canonical_graph(graph)
    return ((0, *triple) for triple in sorted(graph))


def _id(node: Node) -> str:
    return f"_:{node}" if isinstance(node, BNode) else str(node)
