# embeddings, graph -> runs/<run>/ranks.parquet (one row a query) -> metrics.json (group-bys over ranks)
#                      runs/<run>/answers.parquet (the best answers to some queries)
# scores of labelled triples -> runs/<run>/classification.json


rule rank_queries:
    input:
        unpack(run_graph),
        spec="<results>/specs/ranking/{run}.json",
        entity_embeddings="<results>/runs/{run}/embeddings/entities.safetensors",
        query_embeddings="<results>/runs/{run}/embeddings/queries.safetensors",
        interaction="<results>/runs/{run}/embeddings/interaction.safetensors",
    output:
        ranks="<results>/runs/{run}/ranks.parquet",
        answers="<results>/runs/{run}/answers.parquet",
    log:
        "<results>/logs/rank_queries/{run}.log",
    benchmark:
        "<results>/benchmarks/rank_queries/{run}.tsv"
    conda:
        "../../envs/kglm.yaml"
    threads: threads("rank")
    resources:
        mem_mb=scaled("rank", "mem_mb"),
        runtime=scaled("rank", "runtime"),
    params:
        code=run_code("rank"),
    shell:
        "kglm rank --spec {input.spec:q} --graph $(dirname {input.entities:q}) "
        "--embeddings $(dirname {input.entity_embeddings:q}) --out {output.ranks:q} --answers {output.answers:q} > {log:q} 2>&1"


# Where no embeddings say what a candidate is worth.
rule rank_by_model:
    input:
        unpack(run_graph),
        unpack(proposing_run),
        spec="<results>/specs/ranking/{run}.json",
        model=run_model,
        weights=run_weights,
    output:
        ranks="<results>/runs/{run}/ranks.parquet",
        answers="<results>/runs/{run}/answers.parquet",
    log:
        "<results>/logs/rank_by_model/{run}.log",
    benchmark:
        "<results>/benchmarks/rank_by_model/{run}.tsv"
    wildcard_constraints:
        run=one_of(SCORED),
    conda:
        "../../envs/kglm.yaml"
    threads: threads("encode")
    resources:
        gpu=gpus("encode"),
        mem_mb=scaled("encode", "mem_mb"),
        runtime=scaled("encode", "runtime"),
    params:
        code=run_code("rank_by_model"),
        model=model_option,
        proposed=lambda wildcards, input: (
            f"--proposed {shlex.quote(os.path.dirname(input.proposed))}"
            if "proposed" in input.keys()
            else ""
        ),
    shell:
        "HF_HUB_OFFLINE=1 kglm rank_by_model --spec {input.spec:q} --graph $(dirname {input.entities:q}) {params.model} "
        "--weights {input.weights:q} {params.proposed} --out {output.ranks:q} --answers {output.answers:q} > {log:q} 2>&1"


ruleorder: rank_by_model > rank_queries


rule evaluate_ranks:
    input:
        unpack(run_graph),
        spec="<results>/specs/evaluation/{run}.json",
        ranks="<results>/runs/{run}/ranks.parquet",
    output:
        "<results>/runs/{run}/metrics.json",
    log:
        "<results>/logs/evaluate_ranks/{run}.log",
    conda:
        "../../envs/kglm.yaml"
    threads: threads("rank")
    resources:
        mem_mb=scaled("rank", "mem_mb"),
        runtime=scaled("rank", "runtime"),
    params:
        code=run_code("evaluate"),
    shell:
        "kglm evaluate --spec {input.spec:q} --graph $(dirname {input.entities:q}) --ranks {input.ranks:q} "
        "--out {output:q} > {log:q} 2>&1"


rule classify_triples:
    input:
        spec="<results>/specs/evaluation/{run}.json",
        scores="<results>/runs/{run}/scores.parquet",
    output:
        "<results>/runs/{run}/classification.json",
    log:
        "<results>/logs/classify_triples/{run}.log",
    conda:
        "../../envs/kglm.yaml"
    threads: threads("rank")
    resources:
        mem_mb=scaled("rank", "mem_mb"),
        runtime=scaled("rank", "runtime"),
    params:
        code=run_code("classify"),
    shell:
        "kglm classify --spec {input.spec:q} --scores {input.scores:q} --out {output:q} > {log:q} 2>&1"
