"""A query's known answers, rank and scores by the definition: loops over sets, nothing shared with the package."""

SPLITS = ("train", "valid", "test")


def expected(results, run: str, query: dict) -> tuple[list[int], float, dict[int, float]]:
    """Known answers left out, the realistic rank of the true one, and the score of every candidate."""
    entities, table = results.vectors[run]
    head, relation, tail = query["head"], query["relation"], query["tail"]
    true = {tuple(row) for split in SPLITS for row in results.graph.split(split).tolist()}
    if query["direction"] == "tail":
        answer, vector = tail, table[head, relation]
        others = {t for h, r, t in true if (h, r) == (head, relation)} - {tail}
    else:
        answer, vector = head, table[tail, relation + results.graph.relation_count]
        others = {h for h, r, t in true if (r, t) == (relation, tail)} - {head}
    scores = {e: float(entities[e] @ vector) for e in range(len(entities)) if e not in others}
    better = sum(score > scores[answer] for score in scores.values())
    equal = sum(score == scores[answer] for score in scores.values())
    return sorted(others), better + (1 + equal) / 2, scores
