# spec, graph, base model -> runs/<run>/weights (what the method saved), epochs/, log.jsonl, run.json
#                         -> runs/<run>/embeddings/{entities,queries,interaction}.safetensors


# Checkpoints lie outside the declared outputs, which Snakemake removes before a retry; their folder is named after
# the content of all inputs, so that nothing is resumed that was begun on other data or with other code.
rule train_run:
    input:
        unpack(run_graph),
        spec="<results>/specs/run/{run}.json",
        model=run_model,
    output:
        weights=directory("<results>/runs/{run}/weights"),
        epochs=directory("<results>/runs/{run}/epochs"),
        history="<results>/runs/{run}/log.jsonl",
        run="<results>/runs/{run}/run.json",
    log:
        "<results>/logs/train_run/{run}.log",
    benchmark:
        "<results>/benchmarks/train_run/{run}.tsv"
    wildcard_constraints:
        run=one_of(TRAINED),
    priority: 10  # the longest jobs first: short ones fill the gaps at the end
    conda:
        "../../envs/kglm.yaml"
    threads: threads("train")
    resources:
        gpu=training("gpu"),
        nodes=training("nodes"),
        mem_mb=training("mem_mb"),
        runtime=training("runtime"),
    params:
        code=run_code("train"),
        model=model_option,
    shell:
        """
        exec >{log:q} 2>&1
        out=$(dirname {output.run:q})
        scratch=$(dirname "$(dirname "$out")")/scratch/{wildcards.run:q}
        provenance=$(find {input.model:q} -maxdepth 1 -name provenance.json)
        content=$(cat {input.spec:q} {input.entities:q} {input.relations:q} {input.triples:q} $provenance \
            | sha256sum | cut -c -16)
        launch=kglm
        if [ {resources.gpu} -gt 1 ]; then
            launch="kglm-on-gpus {resources.gpu} {resources.nodes}"
        fi
        export HF_HUB_OFFLINE=1 TENSORBOARD_LOGGING_DIR="$out/tensorboard"
        $launch train --spec {input.spec:q} --graph $(dirname {input.entities:q}) {params.model} \
            --checkpoints "$scratch/$content-"{params.code:q} --out "$out"
        rm -rf "$scratch"
        """


rule embed_run:
    input:
        unpack(run_graph),
        spec="<results>/specs/run/{run}.json",
        model=run_model,
        weights=run_weights,
    output:
        entities="<results>/runs/{run}/embeddings/entities.safetensors",
        queries="<results>/runs/{run}/embeddings/queries.safetensors",
        interaction="<results>/runs/{run}/embeddings/interaction.safetensors",
    log:
        "<results>/logs/embed_run/{run}.log",
    benchmark:
        "<results>/benchmarks/embed_run/{run}.tsv"
    conda:
        "../../envs/kglm.yaml"
    threads: threads("encode")
    resources:
        gpu=gpus("encode"),
        mem_mb=scaled("encode", "mem_mb"),
        runtime=scaled("encode", "runtime"),
    params:
        code=run_code("embed"),
        model=model_option,
        shard="1/1",
    shell:
        "HF_HUB_OFFLINE=1 kglm embed --spec {input.spec:q} --graph $(dirname {input.entities:q}) {params.model} "
        "--weights {input.weights:q} --shard {params.shard:q} --out $(dirname {output.entities:q}) > {log:q} 2>&1"


# Millions of entities are encoded in parts, by as many jobs.
use rule embed_run as embed_shard with:
    output:
        entities=temp("<results>/runs/{run}/shards/{shard}/entities.safetensors"),
        queries=temp("<results>/runs/{run}/shards/{shard}/queries.safetensors"),
        interaction=temp("<results>/runs/{run}/shards/{shard}/interaction.safetensors"),
    log:
        "<results>/logs/embed_shard/{run}/{shard}.log",
    benchmark:
        "<results>/benchmarks/embed_shard/{run}/{shard}.tsv"
    params:
        code=run_code("embed"),
        model=model_option,
        shard=lambda wildcards: f"{wildcards.shard}/{configuration.shards(config, wildcards.run)}",


rule join_shards:
    input:
        entities=run_shards("entities.safetensors"),
        queries=run_shards("queries.safetensors"),
        interaction=run_shards("interaction.safetensors"),
    output:
        entities="<results>/runs/{run}/embeddings/entities.safetensors",
        queries="<results>/runs/{run}/embeddings/queries.safetensors",
        interaction="<results>/runs/{run}/embeddings/interaction.safetensors",
    log:
        "<results>/logs/join_shards/{run}.log",
    wildcard_constraints:
        run=one_of(SHARDED),
    conda:
        "../../envs/kglm.yaml"
    threads: threads("light")
    resources:
        mem_mb=scaled("light", "mem_mb"),
        runtime=scaled("rank", "runtime"),
    params:
        code=code_hash("join"),
    shell:
        """
        exec >{log:q} 2>&1
        kglm join --shards {input.entities:q} --out {output.entities:q}
        kglm join --shards {input.queries:q} --out {output.queries:q}
        cp {input.interaction[0]:q} {output.interaction:q}
        """


ruleorder: join_shards > embed_run


rule score_triples:
    input:
        unpack(run_graph),
        spec="<results>/specs/run/{run}.json",
        model=run_model,
        weights=run_weights,
    output:
        "<results>/runs/{run}/scores.parquet",
    log:
        "<results>/logs/score_triples/{run}.log",
    benchmark:
        "<results>/benchmarks/score_triples/{run}.tsv"
    conda:
        "../../envs/kglm.yaml"
    threads: threads("encode")
    resources:
        gpu=gpus("encode"),
        mem_mb=scaled("encode", "mem_mb"),
        runtime=scaled("encode", "runtime"),
    params:
        code=run_code("score"),
        model=model_option,
    shell:
        "HF_HUB_OFFLINE=1 kglm score --spec {input.spec:q} --graph $(dirname {input.entities:q}) {params.model} "
        "--weights {input.weights:q} --out {output:q} > {log:q} 2>&1"
