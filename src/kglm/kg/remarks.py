"""What is odd about a graph, in sentences: on the screen, below tables, in the report. Pure Python, for all to import.

The figures stand in statistics.json and problems.json, which the stage `graph` writes; a dataset's entry may accept a
kind of finding that is meant (`accepted`), which then appears nowhere.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from kglm.errors import InputError
from kglm.files import read_json

# Each kind: what `accepted` names it by -> what a reader should do who does not mean it.
KINDS = {
    "repeated": "take out what stands twice",
    "reversed": "split anew with `ratio`, which keeps both directions together, or read such a row as easy",
    "unseen": "an entity that train has not is placed by its text alone; look for other spellings of its id",
    "alike_ids": "write each id in one way",
    "uncovered_texts": "compare the ids of the text files with those of the triples",
    "small_splits": "give more triples, or another ratio",
    "shared_names": "give names that tell the entities apart, or descriptions",
    "no_false_triple": "leave these triples out for StAR, KG-BERT and LMKE, which draw false ones",
    "true_negatives": "take these out of the false triples",
    "left_out": "see problems.json",
}
FEW = 20  # triples of a split
_COVERED = 0.5  # the part of the entities that a kind of texts should have


def remarks(statistics: Mapping, problems: Mapping | None = None) -> dict[str, str]:
    """Kind -> clause, in the order of `KINDS`, without those that are accepted.

    problems: None where nobody kept them, as of published runs; then only the counts speak.
    """
    problems = problems or {}
    made = {
        "repeated": _repeated(problems.get("duplicates", {}), statistics),
        "reversed": _reversed(statistics),
        "unseen": _unseen(statistics),
        "alike_ids": _alike(problems.get("alike_ids", {})),
        "uncovered_texts": _uncovered(problems.get("covered_by_files", {}), statistics),
        "small_splits": _small(problems.get("asked_by_ratio", {}), statistics),
        "shared_names": _shared(statistics),
        "no_false_triple": _without_false(problems.get("no_false_triple", {})),
        "true_negatives": _true_negatives(problems.get("duplicates", {}), statistics),
        "left_out": _left_out(problems),
    }
    told = {kind: "; ".join(clauses) for kind, clauses in made.items()}
    return {kind: text for kind, text in told.items() if text and kind not in problems.get("accepted", [])}


def sentence(name: str, found: Mapping[str, str]) -> str:
    """All remarks on one dataset as one line."""
    return f"{name}: {'; '.join(found.values())}."


def lines(name: str, found: Mapping[str, str]) -> list[str]:
    """The remarks one a line, each with what to do and how to silence it."""
    return [
        f"note: {name}: {text}; {KINDS[kind]} (if it is meant: `accepted: [{kind}]`)" for kind, text in found.items()
    ]


def remarks_in(folder: Path) -> dict[str, str]:
    """The remarks on the graph in a folder; none where there is no graph, or (whoever needs it, says so) a torn one."""
    statistics, problems = (Path(folder) / name for name in ("statistics.json", "problems.json"))
    try:
        return remarks(read_json(statistics), read_json(problems)) if statistics.is_file() else {}
    except InputError:
        return {}


def _repeated(duplicates: Mapping, statistics: Mapping) -> Iterator[str]:
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        count = duplicates.get("across", {}).get(f"{first} and {second}", {}).get("triples", 0)
        if count:
            yield f"{_of(count, statistics[second], f'{second} triples')} stand in {first}, too"
    within = {name: found["triples"] for name, found in duplicates.get("within", {}).items() if found["triples"]}
    if within:
        yield f"{_listed(within)} triples stand more than once in their split"


def _reversed(statistics: Mapping) -> Iterator[str]:
    linked = statistics.get("linked_in_train", {})
    for name in ("test", "valid"):
        found = linked.get(name, {})
        if found.get("reverse"):
            same = found["reverse_same_relation"]
            told = "all" if same == found["reverse"] else f"{same:,}"
            count = _of(found["reverse"], statistics[name], f"{name} triples")
            yield f"{count} stand reversed in train ({told} with the same relation)"
            return


def _unseen(statistics: Mapping) -> Iterator[str]:
    for name, found in statistics.get("unseen", {}).items():
        entities = statistics["entities_in"][name]
        if found["entities"] and found["entities"] == entities:
            yield f"no entity of {name} is in train: {name} is ranked among its own {entities:,} entities"
        elif found["entities"]:
            count = _of(found["triples"], statistics[name], f"{name} triples")
            yield f"{count} touch {found['entities']:,} entities that train has not"


def _alike(alike: Mapping) -> Iterator[str]:
    for what, found in alike.items():
        if found["count"]:
            example = " and ".join(found["examples"][0])
            yield f"{found['count']:,} {what} ids differ from others by case, spaces or quotes alone, as {example}"


def _uncovered(covered: Mapping, statistics: Mapping) -> Iterator[str]:
    for kind, count in covered.items():
        if count < _COVERED * statistics["entities"]:
            yield f"the files have {kind} for {count:,} of {statistics['entities']:,} entities"


def _small(asked: Mapping, statistics: Mapping) -> Iterator[str]:
    sizes = {name: statistics[name] for name in ("train", "valid", "test") if name in statistics}
    if len(sizes) < 3:
        return
    short = any(sizes[name] < 0.8 * count for name, count in asked.items())
    if short:
        yield f"{_listed(sizes)} triples, where the ratio asks for {_listed(asked)}: the others are needed in train"
    elif min(sizes["valid"], sizes["test"]) < FEW:
        yield f"{_listed(sizes)} triples: too few to tell much"


def _shared(statistics: Mapping) -> Iterator[str]:
    count = statistics.get("texts", {}).get("entities_sharing_name", 0)
    if count:
        yield f"{count:,} entities share their name with another"


def _without_false(found: Mapping) -> Iterator[str]:
    if found.get("count"):
        (head, relation, tail), count = found["examples"][0], found["count"]
        more = f" and {count - 1:,} more" if count > 1 else ""
        yield f"with any other head or tail ({head}, {relation}, {tail}){more} would be true, too"


def _true_negatives(duplicates: Mapping, statistics: Mapping) -> Iterator[str]:
    for name, found in duplicates.get("false_but_true_elsewhere", {}).items():
        if found["triples"]:
            count = _of(found["triples"], statistics["false_triples"][name], f"false {name} triples")
            yield f"{count} are true elsewhere"


def _left_out(problems: Mapping) -> Iterator[str]:
    left = problems.get("left_out_by_split", {})
    if sum(left.values()):
        yield f"the split leaves out {sum(left.values()):,} triples"
    if problems.get("literals_left_out"):
        yield f"{problems['literals_left_out']:,} statements about texts and numbers are left out"


def _of(count: int, whole: int, what: str) -> str:
    return f"{'all' if count == whole > 1 else f'{count:,} of'} {whole:,} {what}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())
