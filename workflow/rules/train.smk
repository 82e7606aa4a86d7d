# spec, graph, base model -> runs/<run>/weights (what the method saved), epochs/, log.jsonl, run.json
#                         -> runs/<run>/embeddings/{entities,queries}.safetensors


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
    priority: 10  # the longest jobs first: short ones fill the gaps at the end
    conda:
        "../../envs/kglm.yaml"
    threads: threads("train")
    resources:
        gpu=gpus("train"),
        mem_mb=scaled("train", "mem_mb"),
        runtime=scaled("train", "runtime"),
    params:
        code=run_code("train"),
    shell:
        """
        exec >{log} 2>&1
        out=$(dirname {output.run})
        scratch=$(dirname $(dirname $out))/scratch/{wildcards.run}
        content=$(cat {input.spec} {input.entities} {input.relations} {input.triples} {input.model}/provenance.json \
            | sha256sum | cut -c -16)
        launch=kglm
        if [ {resources.gpu} -gt 1 ]; then
            launch="accelerate launch --multi_gpu --num_machines 1 --num_processes {resources.gpu} \
                --mixed_precision no --dynamo_backend no -m kglm.cli"
        fi
        export HF_HUB_OFFLINE=1 TENSORBOARD_LOGGING_DIR=$out/tensorboard
        $launch train --spec {input.spec} --graph $(dirname {input.entities}) --model {input.model} \
            --checkpoints $scratch/$content-{params.code} --out $out
        rm -rf $scratch
        """


rule embed_run:
    input:
        unpack(run_graph),
        spec="<results>/specs/run/{run}.json",
        model=run_model,
        weights="<results>/runs/{run}/weights",
    output:
        entities="<results>/runs/{run}/embeddings/entities.safetensors",
        queries="<results>/runs/{run}/embeddings/queries.safetensors",
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
    shell:
        "HF_HUB_OFFLINE=1 kglm embed --spec {input.spec} --graph $(dirname {input.entities}) --model {input.model} "
        "--weights {input.weights} --out $(dirname {output.entities}) > {log} 2>&1"
