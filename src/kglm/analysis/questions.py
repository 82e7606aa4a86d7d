"""KGQA's questions (KaLM, Figure 5): how each is worded, what is right, which examples go before it."""

import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kglm.errors import InputError
from kglm.kg.characters import inside_a_word
from kglm.kg.graph import SPLITS, Graph
from kglm.kg.instructions import TRIPLE_COMPLETION, prompt

TASKS = ("head", "tail", "relation", "classification")
YES, NO = "Yes, this is true", "No, this is not true"

_EDGES = " \t\"'`.,;:!?()[]{}<>"


def relation_question(head: str, tail: str, choices: str) -> str:
    """KaLM's words for relation prediction (Figure 5), with the list of relations where there is one."""
    listed = f" Please choose your answer from: {choices}." if choices else ""
    return f"What is the relation between {head} and {tail}?{listed}"


def claim_question(head: str, relation: str, tail: str) -> str:
    """KaLM's words for triple classification (Figure 5)."""
    return f'Is this true: {head} {relation} {tail}? Please choose your answer from: "{YES}" or "{NO}".'


# What is asked in each task, with placeholders for what a triple fills in, in the order of KaLM's Figure 5.
PROMPTS = {
    "head": f"{TRIPLE_COMPLETION}: [tail entity], [inverse relation]",
    "relation": relation_question("[head entity]", "[tail entity]", "[relation list]"),
    "tail": f"{TRIPLE_COMPLETION}: [head entity], [relation]",
    "classification": claim_question("[head entity]", "[relation]", "[tail entity]"),
}


@dataclass(frozen=True)
class Question:
    """`answer` is what follows the prompt in training, `expected` that which a right answer begins with.

    `accepted` holds the normalised texts of all true answers, the expected one among them.
    """

    task: str
    triple: tuple[int, int, int]
    instruction: str
    input: str
    answer: str
    expected: str
    accepted: frozenset[str]

    @property
    def text(self) -> str:
        """What is asked, without the template."""
        return f"{self.instruction}: {self.input}" if self.input else self.instruction

    @property
    def prompt(self) -> str:
        return prompt(self.instruction, self.input)


@dataclass(frozen=True)
class Wording:
    """How a graph's triples are put into words.

    With `prefix_inverse` head prediction says "inverse" and the relation, as the paper does, else the graph's
    own inverse text. `texts` stand for entities that are completed, names in the other two tasks.
    """

    graph: Graph
    texts: list[str]
    prefix_inverse: bool = True

    @cached_property
    def names(self) -> list[str]:
        return self.graph.entity_texts("name")

    @cached_property
    def relations(self) -> list[str]:
        texts = self.graph.relations["text"].tolist()
        return texts + [f"inverse {text}" for text in texts] if self.prefix_inverse else self.graph.relation_texts()

    @cached_property
    def _truth(self) -> np.ndarray:
        return np.concatenate([self.graph.split(name) for name in SPLITS])

    def candidates(self, task: str) -> frozenset[str]:
        """Everything that could be named in answer to a task, normalised."""
        if task == "classification":
            return frozenset({"yes", "no"})
        texts = self.relations[: self.graph.relation_count] if task == "relation" else self.names
        return frozenset(map(normalise, texts))

    def ask(self, task: str, triple: tuple[int, int, int], true: bool = True, choices: bool = True) -> Question:
        """A task's question about a triple; without `choices` a relation is asked for without the list."""
        if task == "head":
            head, relation, tail = self.graph.inverse(np.array([triple]))[0].tolist()
            return self._completion(task, triple, head, relation, tail)
        if task == "tail":
            return self._completion(task, triple, *triple)
        return self._relation(triple, choices) if task == "relation" else self._classification(triple, true)

    def _completion(self, task: str, triple: tuple, head: int, relation: int, tail: int) -> Question:
        known = self.graph.known_answers(np.array([head]), np.array([relation]))[1]
        accepted = frozenset(normalise(self.names[entity]) for entity in [tail, *known.tolist()])
        given = f"{self.texts[head]}, {self.relations[relation]}"
        return Question(task, triple, TRIPLE_COMPLETION, given, self.texts[tail], self.names[tail], accepted)

    def _relation(self, triple: tuple, choices: bool) -> Question:
        head, relation, tail = triple
        listed = "|".join(self.relations[: self.graph.relation_count]) if choices else ""
        asked = relation_question(self.names[head], self.names[tail], listed)
        rows = (self._truth[:, 0] == head) & (self._truth[:, 2] == tail)
        linked = self._truth[rows, 1].tolist()
        accepted = frozenset(normalise(self.relations[number]) for number in [relation, *linked])
        text = self.relations[relation]
        return Question("relation", triple, asked, "", text, text, accepted)

    def _classification(self, triple: tuple, true: bool) -> Question:
        head, relation, tail = triple
        asked = claim_question(self.names[head], self.relations[relation], self.names[tail])
        text, word = (YES, "yes") if true else (NO, "no")
        return Question("classification", triple, asked, "", text, text, frozenset({word}))


def normalise(text: str) -> str:
    """One form for matching: compatibility characters, case, white space, no punctuation at either end."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.split()).strip(_EDGES)


def named(answer: str, candidates: Collection[str]) -> str | None:
    """The longest normalised candidate that the answer's first line begins with, in whole words, or None.

    The longest one, so that "virus receptor" does not name "virus".
    """
    lines = answer.strip().split("\n")
    text = normalise(lines[0])
    for end in range(len(text), 0, -1):
        if not inside_a_word(text, end) and (found := normalise(text[:end])) in candidates:
            return found
    return None


def sample_triples(graph: Graph, count: int | None, seed: int) -> np.ndarray:
    """`count` test triples (n, 3) drawn by seed without replacement; all for None or more than there are."""
    test = graph.split("test")
    if not len(test):
        raise InputError("the test split holds no triple", remedy="KGQA asks about test triples")
    return test[np.random.default_rng(seed).permutation(len(test))[:count]]


def corrupt_tails(graph: Graph, triples: np.ndarray, seed: int) -> np.ndarray:
    """Each triple with another tail, uniform over those that make it true in no split; -1 for none."""
    generator = np.random.default_rng([seed, 1])
    indptr, indices = graph.known_answers(triples[:, 0], triples[:, 1])
    entities, corrupted = np.arange(graph.entity_count), triples.copy()
    for row, tail in enumerate(triples[:, 2]):
        false = np.setdiff1d(entities, np.append(indices[indptr[row] : indptr[row + 1]], tail))
        corrupted[row, 2] = generator.choice(false) if len(false) else -1
    return corrupted


def build_questions(wording: Wording, task: str, triples: np.ndarray, seed: int) -> list[Question]:
    """One question for each triple (n, 3); classification asks about the first half, true and corrupted."""
    if task != "classification":
        return [wording.ask(task, tuple(triple)) for triple in triples.tolist()]
    half = triples[: (len(triples) + 1) // 2]
    corrupted = corrupt_tails(wording.graph, half, seed)
    pairs = [(a, b) for a, b in zip(half.tolist(), corrupted.tolist(), strict=True) if b[2] >= 0]
    return [
        wording.ask(task, tuple(triple), true)
        for pair in pairs
        for triple, true in zip(pair, (True, False), strict=True)
    ]


def worked_examples(wording: Wording, task: str, rows: list[int], seed: int) -> list[Question]:
    """Solved questions on training triples `rows` (modulo their number); classification's second is false.

    The list of relations stands once, in the question asked: FB15k-237's 237 fill most of a prompt.
    """
    train = wording.graph.split("train")
    triples = train[[row % len(train) for row in rows]]
    corrupted = corrupt_tails(wording.graph, triples, seed)
    examples = []
    for number, (triple, false) in enumerate(zip(triples.tolist(), corrupted.tolist(), strict=True)):
        lie = task == "classification" and number % 2 == 1 and false[2] >= 0
        examples.append(wording.ask(task, tuple(false if lie else triple), not lie, choices=False))
    return examples


def floor_answers(wording: Wording, task: str, questions: list[Question]) -> list[str]:
    """What counting in train answers, whatever the other end is called: the floor of a task.

    The entity or the relation that is most often right, for head and tail of the relation that is asked about, and of
    all relations where it is not in train; a claim is true where its tail stands with its relation in train.
    """
    train = wording.graph.split("train")
    if task == "relation":
        return [wording.relations[_most_frequent(train[:, 1])]] * len(questions)
    if task == "classification":
        seen = set(map(tuple, train[:, 1:].tolist()))
        return [YES if question.triple[1:] in seen else NO for question in questions]
    column = 0 if task == "head" else 2
    asked = {question.triple[1] for question in questions}
    rows = {relation: train[train[:, 1] == relation, column] for relation in asked}
    best = {relation: _most_frequent(of if len(of) else train[:, column]) for relation, of in rows.items()}
    return [wording.names[best[question.triple[1]]] for question in questions]


def _most_frequent(numbers: np.ndarray) -> int:
    return int(np.bincount(numbers).argmax())


def compose(question: Question, examples: list[Question], length: Callable[[str], int], limit: int) -> tuple[str, int]:
    """The prompt behind as many worked examples as fit into `limit` tokens, and how many were left out.

    Nothing is ever cut: where the question alone does not fit, an InputError says so.
    """
    for first in range(len(examples) + 1):
        solved = [f"{example.prompt}{example.answer}\n\n" for example in examples[first:]]
        text = "".join(solved) + question.prompt
        if length(text) <= limit:
            return text, first
    raise InputError(
        f"a question takes {length(question.prompt)} tokens and {limit} fit",
        f"KGQA, task {question.task}",
        "take a model with a longer context, or leave the task out (option tasks)",
    )
