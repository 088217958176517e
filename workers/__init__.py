"""The processes that carry out jobs, and those that watch over them.

========  ================================  ===========================================================================
process   command                           what it does
========  ================================  ===========================================================================
api       python -m api                     takes jobs over HTTP and writes them, with their messages, to the database
broker    (Redis or Valkey)                 passes messages to workers; each says only that there is work
worker    python -m workers                 claims jobs, one at a time in each of its processes, and runs their engines
engine    python -m engine RUN_DIR          trains or evaluates one job; started by a worker, in a run directory
reaper    python -m workers.recover         brings back what was dropped, sends messages and webhooks, grades eval runs
desk      python -m workers.desk            answers chats, previews and plans at once, with resident engines
========  ================================  ===========================================================================

The API and the reaper both carry messages to the broker. The database alone decides who holds a job; all of these
processes may be killed at any time.

- One job, in a worker: tasks (the loop), claim (the lease), gang (several workers), attempt, stage (its input), process
  and warm (the engine), supervise (its events), tail, kills, settle and failures (its end), resident (for the desk).
- A worker's process: celery_signals, consumer, presence, machine, leftovers, code_version.
- The reaper: recover (the sweep), queue (messages), housekeeping, blob_sweeper, ballast, courier and sender (webhooks),
  grading and asking (eval runs).
"""
