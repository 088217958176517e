"""The training engine: a run directory in; `events.jsonl`, checkpoints and an export out.

Where to look (rundir, events, errors, jobs and the packages marked * are free of torch):

Specs and data
    jobs, parts*, kinds/*/spec    the job spec: one type per kind, made of shared parts
    rows*, data, job_rows         row formats and their checks; documents, packing, the stream of a run
    preview                       the rows of a job as it would train on them
    imports*, gguf                models from elsewhere, checked; models written as GGUF files

A run
    __main__, process, session    the process, its one run, and the loaded job that the run works with
    loop                          the training loop; optim, schedule, precision, spikes, selection serve it
    objectives, kinds             the model, rows and loss of each kind of job; batch_loss, next_token
    reference, cache_folder       the scores of a DPO job's starting weights, computed once for all jobs
    checkpoint, shards, saver     saving while training goes on, and resuming bit for bit
    export, merge, proof          the result: written, loaded again, scored, and loaded in plain PEFT
    rundir, journal, rowlog       the run directory, its `events.jsonl` (events), and the loss of every row
    stop, deadline                how runs are stopped, and how they end without their worker
    errors, failure, oom_advice   how runs fail, and what to change

Model and ranks
    model                         loading, adapters, quantization, attention, the forward pass
    dist                          processes that share a run: replicas, ZeRO, tensor, pipeline, context, expert parallelism
    offload, heap, shape_rounding memory outside the device, and of the C library

Evaluation and generation
    score, kinds/eval             jobs that score rows; `evaluate` scores them during training
    likelihood, intervals         likelihoods of texts; confidence intervals
    generation, samples           answers token by token; samples of a model in training
    resident, chat, graders*      the process that answers questions: previews, forecasts, chats

Cost, before and after
    plan*                         formulas: memory and work of a model, from its spec and config.json alone
    forecast                      one job on this machine: its rows are counted and `plan` is applied to them
    estimate*                     known models on many GPUs, from sizes alone, without a job
    effort, passes, tally         the work of a run as `plan` counts it, ahead of it and as it goes
    footprint, measure, pace      memory held, speed, and time left
"""
