# The contents page. What is made is the list `build` of the configuration; each arrow of the data flow is a rule file;
# each rule calls one stage `kglm <stage>`. `--configfile workflow/scales/demo.yaml` makes another scale of it.
from snakemake.utils import min_version

from kglm import config as configuration, frozen, partial_results, validation

min_version("9.27")


if workflow.remote_exec:  # a submitted job: its configuration is the frozen one
    frozen.check_or_exit(workflow)
else:
    validation.check_folder_or_exit(workflow)

    configfile: "config.yaml"

    validation.check_or_exit(workflow, config)
    configuration.completed(config)


pathvars:
    results=f"{config['results']}/{config['scale']}",


include: "workflow/rules/common.smk"
include: "workflow/rules/specs.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/rank.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        paper_files,
        reader_files,
