# base model, weights, embeddings, corpora -> runs/<run>/{anisotropy,perplexity,mmlu,kgqa}.json,
#                                             runs/<run>/{similarity,clusters,attention}.{safetensors,json},
#                                             runs/<run>/cost.json


rule measure_anisotropy:
    input:
        unpack(run_graph),
        spec="<results>/specs/anisotropy/{run}.json",
        model=run_model,
        weights=run_weights,
        epochs="<results>/runs/{run}/epochs",
        corpus=analysed_corpus("anisotropy"),
        embeddings="<results>/runs/{run}/embeddings/entities.safetensors",
        queries="<results>/runs/{run}/embeddings/queries.safetensors",
    output:
        "<results>/runs/{run}/anisotropy.json",
    log:
        "<results>/logs/measure_anisotropy/{run}.log",
    benchmark:
        "<results>/benchmarks/measure_anisotropy/{run}.tsv"
    conda:
        "../../envs/kglm.yaml"
    threads: threads("encode")
    resources:
        gpu=gpus("encode"),
        mem_mb=scaled("encode", "mem_mb"),
        runtime=scaled("encode", "runtime"),
    params:
        code=run_code("anisotropy"),
    shell:
        "HF_HUB_OFFLINE=1 kglm anisotropy --spec {input.spec:q} --model {input.model:q} --weights {input.weights:q} "
        "--epochs {input.epochs:q} --corpus $(dirname {input.corpus:q}) --graph $(dirname {input.entities:q}) "
        "--embeddings $(dirname {input.embeddings:q}) --out {output:q} > {log:q} 2>&1"


rule compare_embeddings:
    input:
        unpack(run_graph),
        spec="<results>/specs/similarity/{run}.json",
        model=run_model,
        weights=run_weights,
        corpus=analysed_corpus("similarity"),
        embeddings="<results>/runs/{run}/embeddings/entities.safetensors",
        queries="<results>/runs/{run}/embeddings/queries.safetensors",
    output:
        matrices="<results>/runs/{run}/similarity.safetensors",
        labels="<results>/runs/{run}/similarity.json",
    log:
        "<results>/logs/compare_embeddings/{run}.log",
    conda:
        "../../envs/kglm.yaml"
    threads: threads("encode")
    resources:
        gpu=gpus("encode"),
        mem_mb=scaled("encode", "mem_mb"),
        runtime=scaled("encode", "runtime"),
    params:
        code=run_code("similarity"),
    shell:
        "HF_HUB_OFFLINE=1 kglm similarity --spec {input.spec:q} --model {input.model:q} --weights {input.weights:q} "
        "--corpus $(dirname {input.corpus:q}) --graph $(dirname {input.entities:q}) "
        "--embeddings $(dirname {input.embeddings:q}) --out {output.matrices:q} > {log:q} 2>&1"


rule measure_perplexity:
    input:
        spec="<results>/specs/perplexity/{run}.json",
        model=run_model,
        weights=run_weights,
        corpus=analysed_corpus("perplexity"),
    output:
        "<results>/runs/{run}/perplexity.json",
    log:
        "<results>/logs/measure_perplexity/{run}.log",
    benchmark:
        "<results>/benchmarks/measure_perplexity/{run}.tsv"
    conda:
        "../../envs/kglm.yaml"
    threads: threads("encode")
    resources:
        gpu=gpus("encode"),
        mem_mb=scaled("encode", "mem_mb"),
        runtime=scaled("encode", "runtime"),
    params:
        code=run_code("perplexity"),
    shell:
        "HF_HUB_OFFLINE=1 kglm perplexity --spec {input.spec:q} --model {input.model:q} --weights {input.weights:q} "
        "--corpus $(dirname {input.corpus:q}) --out {output:q} > {log:q} 2>&1"


rule measure_mmlu:
    input:
        spec="<results>/specs/mmlu/{run}.json",
        model=run_model,
        weights=run_weights,
        corpus=analysed_corpus("mmlu", "questions.parquet"),
    output:
        "<results>/runs/{run}/mmlu.json",
    log:
        "<results>/logs/measure_mmlu/{run}.log",
    benchmark:
        "<results>/benchmarks/measure_mmlu/{run}.tsv"
    conda:
        "../../envs/kglm.yaml"
    threads: threads("encode")
    resources:
        gpu=gpus("encode"),
        mem_mb=scaled("encode", "mem_mb"),
        runtime=scaled("encode", "runtime"),
    params:
        code=run_code("mmlu"),
    shell:
        "HF_HUB_OFFLINE=1 kglm mmlu --spec {input.spec:q} --model {input.model:q} --weights {input.weights:q} "
        "--corpus $(dirname {input.corpus:q}) --out {output:q} > {log:q} 2>&1"


rule ask_questions:
    input:
        unpack(run_graph),
        spec="<results>/specs/kgqa/{run}.json",
        model=run_model,
        weights=run_weights,
    output:
        "<results>/runs/{run}/kgqa.json",
    log:
        "<results>/logs/ask_questions/{run}.log",
    benchmark:
        "<results>/benchmarks/ask_questions/{run}.tsv"
    conda:
        "../../envs/kglm.yaml"
    threads: threads("encode")
    resources:
        gpu=gpus("encode"),
        mem_mb=scaled("encode", "mem_mb"),
        runtime=scaled("encode", "runtime"),
    params:
        code=run_code("kgqa"),
    shell:
        "HF_HUB_OFFLINE=1 kglm kgqa --spec {input.spec:q} --graph $(dirname {input.entities:q}) --model {input.model:q} "
        "--weights {input.weights:q} --out {output:q} > {log:q} 2>&1"


rule find_clusters:
    input:
        unpack(run_graph),
        spec="<results>/specs/clusters/{run}.json",
        embeddings="<results>/runs/{run}/embeddings/entities.safetensors",
        queries="<results>/runs/{run}/embeddings/queries.safetensors",
        interaction="<results>/runs/{run}/embeddings/interaction.safetensors",
    output:
        points="<results>/runs/{run}/clusters.safetensors",
        labels="<results>/runs/{run}/clusters.json",
    log:
        "<results>/logs/find_clusters/{run}.log",
    conda:
        "../../envs/kglm.yaml"
    threads: threads("rank")
    resources:
        mem_mb=scaled("rank", "mem_mb"),
        runtime=scaled("rank", "runtime"),
    params:
        code=run_code("clusters"),
    shell:
        "kglm clusters --spec {input.spec:q} --graph $(dirname {input.entities:q}) "
        "--embeddings $(dirname {input.embeddings:q}) --out {output.points:q} > {log:q} 2>&1"


rule look_at_attention:
    input:
        unpack(run_graph),
        spec="<results>/specs/attention/{run}.json",
        model=run_model,
        weights=run_weights,
    output:
        weights="<results>/runs/{run}/attention.safetensors",
        labels="<results>/runs/{run}/attention.json",
    log:
        "<results>/logs/look_at_attention/{run}.log",
    conda:
        "../../envs/kglm.yaml"
    threads: threads("encode")
    resources:
        gpu=gpus("encode"),
        mem_mb=scaled("encode", "mem_mb"),
        runtime=scaled("encode", "runtime"),
    params:
        code=run_code("attention"),
    shell:
        "HF_HUB_OFFLINE=1 kglm attention --spec {input.spec:q} --graph $(dirname {input.entities:q}) "
        "--model {input.model:q} --weights {input.weights:q} --out {output.weights:q} > {log:q} 2>&1"


rule measure_cost:
    input:
        unpack(run_graph),
        spec="<results>/specs/cost/{run}.json",
        model=run_model,
        weights=run_weights,
    output:
        "<results>/runs/{run}/cost.json",
    log:
        "<results>/logs/measure_cost/{run}.log",
    conda:
        "../../envs/kglm.yaml"
    threads: threads("encode")
    resources:
        gpu=gpus("encode"),
        mem_mb=scaled("encode", "mem_mb"),
        runtime=scaled("encode", "runtime"),
    params:
        code=run_code("cost"),
    shell:
        "HF_HUB_OFFLINE=1 kglm cost --spec {input.spec:q} --graph $(dirname {input.entities:q}) "
        "--model {input.model:q} --weights {input.weights:q} --out {output:q} > {log:q} 2>&1"
