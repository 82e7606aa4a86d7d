# model entry -> models/<model>/, a plain Hugging Face folder with provenance.json
# On the machine that submits: nothing is fetched on a compute node.
rule fetch_model:
    input:
        spec="<results>/specs/model/{model}.json",
    output:
        directory("<results>/models/{model}"),
    log:
        "<results>/logs/fetch_model/{model}.log",
    wildcard_constraints:
        model=one_of(READY_MADE),
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    params:
        code=model_code,
    shell:
        "kglm model --spec {input.spec:q} --out {output:q} > {log:q} 2>&1"


rule train_base_model:
    input:
        unpack(scratch_graph),
        spec="<results>/specs/model/{model}.json",
        corpora=scratch_corpora,
    output:
        directory("<results>/models/{model}"),
    log:
        "<results>/logs/train_base_model/{model}.log",
    benchmark:
        "<results>/benchmarks/train_base_model/{model}.tsv"
    wildcard_constraints:
        model=one_of(FROM_SCRATCH),
    conda:
        "../../envs/kglm.yaml"
    threads: threads("base_model")
    resources:
        mem_mb=scaled("base_model", "mem_mb"),
        runtime=scaled("base_model", "runtime"),
    params:
        code=model_code,
        corpora=lambda wildcards, input: [os.path.dirname(path) for path in input.corpora],
    shell:
        "HF_HUB_OFFLINE=1 kglm model --spec {input.spec:q} --graph $(dirname {input.entities:q}) "
        "--corpora {params.corpora:q} --out {output:q} > {log:q} 2>&1"
