"""Raw files -> the graph: entities, relations and triples with numbers, texts and statistics.

Entities and relations are numbered in the order of their ids' Unicode code points, so that the numbering does
not depend on the order of lines; triples keep the order of their files (train, valid, test; false ones
behind). Drawn negatives stand behind all triples of the files: those of valid, then those of test, one for each
triple of the split and in the order of these.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kglm.artefacts import TRIPLES, TRIPLES_WITH_INVERSE, write_parquet
from kglm.errors import InputError
from kglm.files import MARK, atomic_directory, check_files, claim_files, write_json
from kglm.kg.characters import whole
from kglm.kg.configuration import check
from kglm.kg.graph import SPLITS, Graph
from kglm.kg.negatives import corrupted, true_keys
from kglm.kg.parsers import TEXT, Triples, read_lines, read_triples
from kglm.kg.remarks import lines, remarks
from kglm.kg.sources import check_fetched
from kglm.kg.splits import BETWEEN_SETS, RELATION_NOT_IN_TRAIN, split_entities, split_triples, wanted_sizes
from kglm.kg.statistics import EXAMPLES, alike_ids, compare, duplicates, statistics, without_false
from kglm.kg.texts import TextTable, assign, from_ids, read_texts, repeated


@dataclass(frozen=True)
class _File:
    """One triple file. `split` is None before the file is split; label -1 marks a file of false triples."""

    name: str
    split: str | None
    triples: Triples
    label: int = 1


GRAPH_FILES = ["entities.parquet", "relations.parquet", "triples.parquet", "statistics.json", "problems.json"]


def graph(spec: dict, raw: Path, out: Path) -> None:
    """Write {entities,relations,triples}.parquet, statistics.json and problems.json into the folder `out`.

    `spec` is a dataset entry, `raw` the folder that `fetch` wrote. What is odd about the graph is printed. InputError
    where a file, a text or an expected count is wrong; then nothing is written.
    """
    out = Path(out)
    check_files(out, GRAPH_FILES)
    built, found, problems = examined(spec, Path(raw))
    with atomic_directory(out / ".new") as folder:
        built.write(folder)
        write_json(found, folder / "statistics.json")
        write_json(problems, folder / "problems.json")
    claim_files(out, GRAPH_FILES)
    for file in sorted(file for file in (out / ".new").iterdir() if file.name != MARK):
        file.replace(out / file.name)
    shutil.rmtree(out / ".new")
    for line in lines(spec.get("name", "graph"), remarks(found, problems)):
        print(line, file=sys.stderr)


def examined(spec: dict, raw: Path) -> tuple[Graph, dict, dict]:
    """The graph of a dataset entry, its statistics and its problems; InputError as of `graph`."""
    check(spec, "dataset")
    check_fetched(raw)
    files = _read_files(spec["splits"], raw)
    built, problems = _build(spec, raw, files)
    found = statistics(built)
    compare(spec.get("expect", {}), found, f"dataset {spec.get('name', '')}".strip())
    return built, found, problems


def augment(graph: Path, out: Path) -> None:
    """Write triples_with_inverse.parquet: the true triples of each split, then (t, r⁻¹, h) for each."""
    loaded = Graph.read(graph)
    parts = []
    for name in SPLITS:
        triples = loaded.split(name, inverse=True)
        part = pd.DataFrame(triples.astype(np.int32), columns=["head", "relation", "tail"])
        parts.append(part.assign(split=name, inverse=np.arange(len(part)) >= len(part) // 2))
    write_parquet(pd.concat(parts, ignore_index=True), out, TRIPLES_WITH_INVERSE)


def _read_files(splits: Mapping, raw: Path) -> list[_File]:
    options = {"format": splits.get("format"), "header": splits.get("header")}
    if "file" in splits:
        return [_File(splits["file"], None, read_triples(raw / splits["file"], **options))]
    labelled, negatives = splits.get("labelled", ()), splits.get("negatives", {})
    files = []
    for name in SPLITS:
        path = raw / splits[name]
        files.append(_File(splits[name], name, read_triples(path, labelled=name in labelled, **options)))
        if name in negatives:
            files.append(_File(negatives[name], name, read_triples(raw / negatives[name], **options), label=-1))
    return files


def _build(spec: Mapping, raw: Path, files: list[_File]) -> tuple[Graph, dict]:
    used = _distinct([column for file in files for column in (file.triples.head, file.triples.tail)])
    entities = _entity_ids(spec, raw, used, files)
    relations = _distinct([file.triples.relation for file in files])
    triples, left_out = _split(spec["splits"], _triple_frame(files, entities, relations), files)
    train = triples[(triples["split"] == "train") & (triples["label"] == 1)]
    in_train = np.zeros(len(entities), bool)
    in_train[train[["head", "tail"]].to_numpy()] = True
    entity_frame, problems = _entity_frame(spec, raw, entities, files, in_train)
    relation_frame = _relation_frame(spec, raw, relations, files)
    places = [file.name for file in files]
    if "drawn_negatives" in spec["splits"]:
        drawn = _drawn_negatives(Graph(entity_frame, relation_frame, triples), **spec["splits"]["drawn_negatives"])
        triples = pd.concat([triples, drawn.assign(place=drawn["place"] + np.int8(len(places)))], ignore_index=True)
        places += [f"drawn for {name}" for name in places]
    built = Graph(entity_frame, relation_frame, triples[TRIPLES.names])
    problems["duplicates"] = duplicates(built, places, triples["place"].to_numpy(), triples["line"].to_numpy())
    idle = np.bincount(triples[["head", "tail"]].to_numpy().reshape(-1), minlength=len(entities)) == 0
    problems["entities_without_triples"] = _listed(entities.filter(pa.array(idle)))
    problems["left_out_by_split"] = left_out
    problems["literals_left_out"] = sum(file.triples.literals for file in files)
    problems["asked_by_ratio"] = _asked(spec["splits"], triples)
    problems["alike_ids"] = {"entity": alike_ids(entities), "relation": alike_ids(relations)}
    problems["no_false_triple"] = without_false(built)
    problems["accepted"] = spec.get("accepted", [])
    return built, problems


def _triple_frame(files: list[_File], entities: pa.Array, relations: pa.Array) -> pd.DataFrame:
    """All triples in the files' order; `place` (number of the file) and `line` say where each comes from."""
    counts = [len(file.triples.label) for file in files]
    return pd.DataFrame(
        {
            "head": _numbers(files, "head", entities),
            "relation": _numbers(files, "relation", relations),
            "tail": _numbers(files, "tail", entities),
            "label": np.concatenate([file.triples.label * np.int8(file.label) for file in files]),
            "place": np.repeat(np.arange(len(files), dtype=np.int8), counts),
            "line": np.concatenate([file.triples.line for file in files]),
        }
    )


def _split(splits: Mapping, triples: pd.DataFrame, files: list[_File]) -> tuple[pd.DataFrame, dict[str, int]]:
    """The triples that a split holds, with the column `split`, and how many an inductive split leaves out."""
    numbered = triples[["head", "relation", "tail"]].to_numpy()
    if "inductive" in splits:
        shares = splits["inductive"]
        codes = split_entities(numbered, shares, shares["seed"], ", ".join(file.name for file in files))
    elif "file" in splits:
        codes = split_triples(numbered, splits["ratio"], splits["seed"], splits["file"])
    else:
        codes = np.array([SPLITS.index(file.split) for file in files])[triples["place"]]
    kept = codes >= 0
    names = pa.chunked_array([pa.array(SPLITS).take(pa.array(codes[kept]))]).to_pandas()
    left_out = {
        "between_entity_sets": int((codes == BETWEEN_SETS).sum()),
        "relation_not_in_train": int((codes == RELATION_NOT_IN_TRAIN).sum()),
    }
    return triples[kept].reset_index(drop=True).assign(split=names), left_out


def _asked(splits: Mapping, triples: pd.DataFrame) -> dict[str, int]:
    """How many triples `ratio` asks for in valid and test; nothing where there is none."""
    if "ratio" not in splits:
        return {}
    distinct = len(triples[["head", "relation", "tail"]].drop_duplicates())
    return dict(zip(SPLITS[1:], wanted_sizes(distinct, splits["ratio"]), strict=True))


def _drawn_negatives(graph: Graph, seed: int, splits: Sequence[str]) -> pd.DataFrame:
    """For each triple of some splits its row with a false triple in place of the true one, which no split holds.

    Each split has a random stream of its own: its negatives do not depend on which others are asked for.
    """
    known, parts = true_keys(graph), []
    for number, name in enumerate(SPLITS):
        if name in splits:
            generator = np.random.default_rng([seed, number])
            false = corrupted(graph.split(name), known, graph, generator)
            heads, relations, tails = false.astype(np.int32).T
            rows = graph.triples[graph.triples["split"] == name]
            parts.append(rows.assign(head=heads, relation=relations, tail=tails, label=np.int8(-1)))
    return pd.concat(parts)


def _distinct(columns: list[pa.ChunkedArray]) -> pa.Array:
    """The values of dictionary columns, sorted; unified columns have one dictionary for all their chunks."""
    values = pc.unique(pa.chunked_array([column.chunk(0).dictionary for column in columns]))
    return values.take(pc.sort_indices(values))


def _numbers(files: list[_File], column: str, ids: pa.Array) -> np.ndarray:
    parts = []
    for file in files:
        chunks = getattr(file.triples, column).chunks
        numbers = pc.index_in(chunks[0].dictionary, value_set=ids).to_numpy(zero_copy_only=False)
        parts += [numbers[chunk.indices.to_numpy()] for chunk in chunks]
    return np.concatenate(parts).astype(np.int32)


def _entity_ids(spec: Mapping, raw: Path, used: pa.Array, files: list[_File]) -> pa.Array:
    if spec.get("entities_from", "triples") == "triples":
        return used
    lines = pc.utf8_trim_whitespace(read_lines(raw / spec["entities"]))
    listed = pc.unique(lines.filter(pc.not_equal(lines, "")))
    missing = used.filter(pc.invert(pc.is_in(used, value_set=listed)))
    if len(missing):
        what = f"{_entities(missing)} not listed in {spec['entities']}"
        raise InputError(what, _place_of(missing[0].as_py(), files), "list it, or set `entities_from: triples`")
    return listed.take(pc.sort_indices(listed))


def _entity_frame(
    spec: Mapping, raw: Path, ids: pa.Array, files: list[_File], in_train: np.ndarray
) -> tuple[pd.DataFrame, dict]:
    names = _tables(spec.get("names"), raw, ids, files, "name")
    descriptions = _tables(spec.get("descriptions", []), raw, ids, files, "description")
    name, from_name = assign(ids, names)
    description, from_description = assign(ids, descriptions)
    without = ids.filter(pc.and_(pc.equal(name, ""), pc.equal(description, "")))
    if len(without):
        what = f"{_entities(without)} without name and description"
        remedy = "add a text, or end the entry's `names` with `from_ids: true`"
        raise InputError(what, _place_of(without[0].as_py(), files), remedy)
    problems = {
        "without_name": _listed(ids.filter(pc.equal(name, ""))),
        "without_description": _listed(ids.filter(pc.equal(description, ""))),
        "ids_with_several_texts": {table.source: _listed(repeated(table, ids)) for table in names + descriptions},
        "names_from": from_name,
        "descriptions_from": from_description,
        "covered_by_files": {
            kind: sum(count for source, count in given.items() if source != "ids")
            for kind, sources, given in (
                ("names", spec.get("names"), from_name),
                ("descriptions", spec.get("descriptions"), from_description),
            )
            if any("file" in source for source in sources or [])
        },
    }
    columns = {"id": ids, "name": name, "description": description, "in_train": pa.array(in_train)}
    return _frame(columns), problems


def _relation_frame(spec: Mapping, raw: Path, ids: pa.Array, files: list[_File]) -> pd.DataFrame:
    text, _ = assign(ids, _tables(spec.get("relation_texts"), raw, ids, files, "name"))
    without = ids.filter(pc.equal(text, ""))
    if len(without):
        remedy = "add it, or end the entry's `relation_texts` with `from_ids: true`"
        raise InputError(f"relation {without[0]} has no text", _place_of(without[0].as_py(), files), remedy)
    inverse = dict(zip(ids.to_pylist(), (f"inverse {one}" for one in text.to_pylist()), strict=True))
    written = {id: whole(text) for id, text in spec.get("inverse_texts", {}).items()}
    if unknown := sorted(written.keys() - inverse.keys()):
        what = f"no triple has the relation {unknown[0]}"
        raise InputError(what, "inverse_texts", f"the relations are {', '.join(list(inverse)[:20])}")
    return _frame({"id": ids, "text": text, "inverse": pa.array([*(inverse | written).values()], TEXT)})


def _tables(sources: list | None, raw: Path, ids: pa.Array, files: list[_File], kind: str) -> list[TextTable]:
    """The texts that the entry names and those found in RDF; where it names none (None), also the ids."""
    tables = []
    for source in sources or []:
        steps = {"steps": source["clean"]} if "clean" in source else {}
        tables.append(from_ids(ids, **steps) if source.get("from_ids") else _read_texts(raw, source, ids, kind))
    for file in files:
        found = [(id, text) for id, what, text in file.triples.texts if what == kind]
        if found:
            tables.append(TextTable(*(pa.array(column, TEXT) for column in zip(*found, strict=True)), file.name))
    return [*tables, from_ids(ids)] if sources is None else tables


def _read_texts(raw: Path, source: Mapping, ids: pa.Array, kind: str) -> TextTable:
    """The texts of a file; InputError where it has none of the ids, for then it belongs to another graph."""
    table = read_texts(raw, source)
    if len(table.ids) and not pc.any(pc.is_in(table.ids, value_set=ids)).as_py():
        what = f"none of its {len(table.ids):,} ids is one of the graph's: it has {table.ids[-1]}, the graph {ids[-1]}"
        remedy = f"mend the ids (a spreadsheet takes leading zeros off), or take the file out of the {kind}s"
        raise InputError(what, source["file"], remedy)
    return table


def _entities(ids: pa.Array) -> str:
    return f"entity {ids[0]} is" if len(ids) == 1 else f"entity {ids[0]} and {len(ids) - 1} more are"


def _place_of(id: str, files: list[_File]) -> str:
    """file:line of the first triple that mentions an entity or a relation."""
    for file in files:
        columns = (file.triples.head, file.triples.relation, file.triples.tail)
        rows = [row for column in columns if (row := pc.index(column.cast(TEXT), id).as_py()) >= 0]
        if rows:
            return f"{file.name}:{file.triples.line[min(rows)]}"
    return "entities"


def _listed(ids: pa.Array | list[str]) -> dict:
    return {"count": len(ids), "examples": [str(id) for id in ids[:EXAMPLES]]}


def _frame(columns: Mapping[str, pa.Array]) -> pd.DataFrame:
    """A frame in chunks of a million rows: text beyond 2 GiB in one chunk would fit no string column."""
    table = pa.table(columns)
    step = 1 << 20
    pieces = [table.slice(at, step) for at in range(0, max(len(table), 1), step)]
    return pa.concat_tables(pieces).to_pandas()
