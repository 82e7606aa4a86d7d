# configuration -> specs/<kind>/<name>.json


# Each thing depends on its own resolved configuration and on nothing else: a change of one run's learning rate
# changes the text of one spec.
rule write_spec:
    output:
        "<results>/specs/{kind}/{name}.json",
    log:
        "<results>/logs/write_spec/{kind}/{name}.log",
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    params:
        spec=lambda wildcards: configuration.spec_text(config, wildcards.kind, wildcards.name),
    shell:
        "printf '%s\\n' {params.spec:q} > {output:q} 2> {log:q}"
