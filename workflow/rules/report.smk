# runs, graphs -> tables/<table>.{tex,csv,md}, figures/<figure>.{pdf,png,tex}, audit.{csv,md,tex}, paper.tex, paper.pdf,
# summary.txt
# all of these, graphs -> report.html
rule make_table:
    input:
        spec="<results>/specs/table/{table}.json",
        sources=sources("table"),
    output:
        report("<results>/tables/{table}.csv", caption="../report/table.rst", category="Tables"),
        "<results>/tables/{table}.md",
        tex="<results>/tables/{table}.tex",
    log:
        "<results>/logs/make_table/{table}.log",
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    threads: threads("light")
    resources:
        mem_mb=scaled("light", "mem_mb"),
        runtime=scaled("light", "runtime"),
    params:
        code=code_hash("table"),
        caption=lambda wildcards: config["tables"][wildcards.table]["caption"],
    shell:
        'out={output.tex:q}; kglm table --spec {input.spec:q} --inputs {input.sources:q} --out "${{out%.tex}}" > {log:q} 2>&1'


rule draw_figure:
    input:
        spec="<results>/specs/figure/{figure}.json",
        sources=sources("figure"),
    output:
        report("<results>/figures/{figure}.png", caption="../report/figure.rst", category="Figures"),
        "<results>/figures/{figure}.pdf",
        tex="<results>/figures/{figure}.tex",
    log:
        "<results>/logs/draw_figure/{figure}.log",
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    threads: threads("light")
    resources:
        mem_mb=scaled("light", "mem_mb"),
        runtime=scaled("light", "runtime"),
    params:
        code=lambda wildcards: code_hash("figure", config["figures"][wildcards.figure]["kind"]),
        caption=lambda wildcards: config["figures"][wildcards.figure]["caption"],
    shell:
        # On the screen as well: which letters no font has.
        'out={output.tex:q}; kglm figure --spec {input.spec:q} --inputs {input.sources:q} --out "${{out%.tex}}" 2>&1 | tee {log:q}'


rule audit_reported:
    output:
        "<results>/audit.csv",
        "<results>/audit.md",
        tex="<results>/audit.tex",
    log:
        "<results>/logs/audit_reported.log",
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    params:
        code=code_hash("audit"),
    shell:
        'out={output.tex:q}; kglm audit --out "${{out%.tex}}" > {log:q} 2>&1'


rule write_paper:
    input:
        spec="<results>/specs/paper/paper.json",
        audit="<results>/audit.tex",
        tables=expand("<results>/tables/{table}.tex", table=TABLES),
        figures=expand("<results>/figures/{figure}.tex", figure=FIGURES),
        drawings=expand("<results>/figures/{figure}.pdf", figure=FIGURES),
    output:
        "<results>/paper.tex",
    log:
        "<results>/logs/write_paper.log",
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    params:
        code=code_hash("paper"),
    shell:
        "kglm paper --spec {input.spec:q} --tables {input.tables:q} --figures {input.figures:q} --audit {input.audit:q}"
        " --out {output:q} 2>&1 | tee {log:q}"


rule typeset_paper:
    input:
        "<results>/paper.tex",
    output:
        report("<results>/paper.pdf", caption="../report/paper.rst", category="Paper"),
    log:
        "<results>/logs/typeset_paper.log",
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    shell:
        "typeset-paper {input:q} > {log:q}"


rule write_summary:
    input:
        tables=expand("<results>/tables/{table}.md", table=TABLES),
        figures=expand("<results>/figures/{figure}.png", figure=FIGURES),
        paper="<results>/paper.tex",
    output:
        "<results>/summary.txt",
    log:
        "<results>/logs/write_summary.log",
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    params:
        code=code_hash("summary"),
    shell:
        "kglm summary --inputs {input:q} --out {output:q} > {log:q} 2>&1"


rule build_report:
    input:
        spec="<results>/specs/paper/paper.json",
        tables=expand("<results>/tables/{table}.csv", table=TABLES),
        captions=expand("<results>/tables/{table}.md", table=TABLES),
        figures=expand("<results>/figures/{figure}.png", figure=FIGURES),
        runs=reported_runs,
        graphs=reported_graphs,
        audit="<results>/audit.csv",
    output:
        "<results>/report.html",
    log:
        "<results>/logs/build_report.log",
    localrule: True
    conda:
        "../../envs/kglm.yaml"
    params:
        code=code_hash("report"),
        graphs=lambda wildcards, input: list(dict.fromkeys(map(os.path.dirname, input.graphs))),
    shell:
        "kglm report --spec {input.spec:q} --tables {input.tables:q} --figures {input.figures:q} --runs {input.runs:q} "
        "--graphs {params.graphs:q} --audit {input.audit:q} --out {output:q} > {log:q} 2>&1"
