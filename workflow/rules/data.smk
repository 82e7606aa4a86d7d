# config entry -> data/<dataset>/raw/ -> {entities,relations,triples}.parquet, statistics.json, problems.json
#              -> triples_with_inverse.parquet, instructions/{train,valid,test}.parquet
# config entry -> corpora/<corpus>/raw/ -> {train,test}.txt or questions.parquet


rule fetch_dataset:
    input:
        spec="<results>/specs/dataset_files/{dataset}.json",
        own=own_files("datasets"),
    output:
        directory("<results>/data/{dataset}/raw"),
    log:
        "<results>/logs/fetch_dataset/{dataset}.log",
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    params:
        own=own_contents("datasets"),
        code=code_hash("fetch"),
    shell:
        "kglm fetch --spec {input.spec:q} --out {output:q} > {log:q} 2>&1"


rule build_graph:
    input:
        spec="<results>/specs/dataset/{dataset}.json",
        raw="<results>/data/{dataset}/raw",
    output:
        entities="<results>/data/{dataset}/entities.parquet",
        relations="<results>/data/{dataset}/relations.parquet",
        triples="<results>/data/{dataset}/triples.parquet",
        statistics="<results>/data/{dataset}/statistics.json",
        problems="<results>/data/{dataset}/problems.json",
    log:
        "<results>/logs/build_graph/{dataset}.log",
    benchmark:
        "<results>/benchmarks/build_graph/{dataset}.tsv"
    conda:
        "../../envs/kglm.yaml"
    threads: threads("data")
    resources:
        mem_mb=scaled("data", "mem_mb"),
        runtime=scaled("data", "runtime"),
    params:
        code=code_hash("graph"),
    shell:
        # On the screen as well: what is odd about the graph.
        "kglm graph --spec {input.spec:q} --raw {input.raw:q} --out $(dirname {output.entities:q}) 2>&1 | tee {log:q}"


rule augment_graph:
    input:
        **graph_files("{dataset}"),
    output:
        "<results>/data/{dataset}/triples_with_inverse.parquet",
    log:
        "<results>/logs/augment_graph/{dataset}.log",
    conda:
        "../../envs/kglm.yaml"
    threads: threads("data")
    resources:
        mem_mb=scaled("data", "mem_mb"),
        runtime=scaled("data", "runtime"),
    params:
        code=code_hash("augment"),
    shell:
        "kglm augment --graph $(dirname {input.entities:q}) --out {output:q} > {log:q} 2>&1"


rule write_instructions:
    input:
        **graph_files("{dataset}"),
        spec="<results>/specs/instructions/{dataset}.json",
    output:
        directory("<results>/data/{dataset}/instructions"),
    log:
        "<results>/logs/write_instructions/{dataset}.log",
    conda:
        "../../envs/kglm.yaml"
    threads: threads("data")
    resources:
        mem_mb=scaled("data", "mem_mb"),
        runtime=scaled("data", "runtime"),
    params:
        code=code_hash("instructions"),
    shell:
        "kglm instructions --spec {input.spec:q} --graph $(dirname {input.entities:q}) --out {output:q} > {log:q} 2>&1"


rule fetch_corpus:
    input:
        spec="<results>/specs/corpus_files/{corpus}.json",
        own=own_files("corpora"),
    output:
        directory("<results>/corpora/{corpus}/raw"),
    log:
        "<results>/logs/fetch_corpus/{corpus}.log",
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    params:
        own=own_contents("corpora"),
        code=code_hash("fetch"),
    shell:
        "kglm fetch --spec {input.spec:q} --out {output:q} > {log:q} 2>&1"


rule build_corpus:
    input:
        spec="<results>/specs/corpus/{corpus}.json",
        raw="<results>/corpora/{corpus}/raw",
    output:
        test="<results>/corpora/{corpus}/test.txt",
    log:
        "<results>/logs/build_corpus/{corpus}.log",
    wildcard_constraints:
        corpus=one_of(WHOLE),
    conda:
        "../../envs/kglm.yaml"
    threads: threads("data")
    resources:
        mem_mb=scaled("data", "mem_mb"),
        runtime=scaled("data", "runtime"),
    params:
        code=code_hash("corpus"),
    shell:
        "kglm corpus --spec {input.spec:q} --raw {input.raw:q} --out $(dirname {input.raw:q}) > {log:q} 2>&1"


use rule build_corpus as split_corpus with:
    output:
        train="<results>/corpora/{corpus}/train.txt",
        test="<results>/corpora/{corpus}/test.txt",
    log:
        "<results>/logs/split_corpus/{corpus}.log",
    wildcard_constraints:
        corpus=one_of(SPLIT),


use rule build_corpus as build_questions with:
    output:
        questions="<results>/corpora/{corpus}/questions.parquet",
    log:
        "<results>/logs/build_questions/{corpus}.log",
    wildcard_constraints:
        corpus=one_of(QUESTIONS),
